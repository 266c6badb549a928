// The members of the cluster, and how this node is doing.

import { chart } from "./chart.js";
import { fill, h, setText, svg } from "./dom.js";
import { bytes, clock, compact, enumName, many, micros, moment, relative, span, visible, whole } from "./format.js";
import { live, subscribe } from "./live.js";
import { badge, card, empty, facts, forbidden, loading, pageHead, table } from "./parts.js";
import { session } from "./session.js";

/** A member that has been silent for longer does not answer. */
const SILENCE_MS_MAX = 2000;

const number = (value) => (value === undefined || value === null ? null : Number(value));

/** A counter's growth per second; null across a restart or a gap. */
function rate(name) {
  return (figure, before) => {
    if (before === undefined) return null;
    const seconds = (Number(figure.atMs) - Number(before.atMs)) / 1000;
    const growth = Number(figure[name] ?? 0) - Number(before[name] ?? 0);
    return seconds > 0 && seconds < 30 && growth >= 0 ? growth / seconds : null;
  };
}

const field = (name) => (figure) => number(figure[name]);
const perSecond = (value) => `${compact(value)}/s`;

const CHARTS = [
  {
    title: "Requests",
    series: [
      { name: "writes", of: rate("writesTotal") },
      { name: "reads", of: rate("readsTotal") },
    ],
    format: perSecond,
  },
  {
    title: "Write latency",
    series: [
      { name: "p50", of: field("writeP50Us") },
      { name: "p99", of: field("writeP99Us") },
    ],
    format: micros,
  },
  {
    title: "Read latency",
    series: [
      { name: "p50", of: field("readP50Us") },
      { name: "p99", of: field("readP99Us") },
    ],
    format: micros,
  },
  { title: "Log sync", series: [{ name: "p99", of: field("walSyncP99Us") }], format: micros },
  { title: "Memory", series: [{ name: "resident", of: field("memoryBytes") }], format: bytes, binary: true },
  {
    title: "Disk",
    series: [
      {
        name: "in use",
        of: (figure) =>
          figure.diskTotalBytes === undefined ? null : Number(figure.diskTotalBytes) - Number(figure.diskFreeBytes ?? 0),
      },
    ],
    format: bytes,
    binary: true,
  },
];

const REASONS = {
  awaiting_leader: "no leader is known",
  election_in_progress: "a leader is being elected",
  replication_stale: "it has heard nothing from the leader for too long",
  disk_failing: "its disk fails",
  disk_full: "its disk is full",
};

/** What a node tells that knows of no leader, or of none that answers. */
export const isLeaderless = (status) =>
  !status.ready && ["awaiting_leader", "election_in_progress", "replication_stale"].includes(status.reason);

/** What keeps the node from serving, for people. */
export const reasonText = (reason) => REASONS[reason] ?? (reason ?? "").replaceAll("_", " ");

/** The members as this node knows them. */
export function memberRows(status) {
  return (status?.members ?? []).map((member) => ({ ...member, own: member.nodeId === session.nodeId }));
}

/** Whether a member answers, as far as this node can tell. */
function answering(member, status) {
  if (member.own) return status.ready ? ["ready", "good"] : ["not ready", "bad"];
  if (member.silenceMs !== undefined) {
    return Number(member.silenceMs) > SILENCE_MS_MAX ? [`silent for ${span(member.silenceMs)}`, "bad"] : ["answers", "good"];
  }
  return status.role === "ROLE_LEADER" ? ["answers", "good"] : ["the leader knows", "plain"];
}

function memberRole(member, status) {
  if (member.leader) return ["leader", "accent"];
  if (member.own) return [enumName(status.role, "ROLE_"), "plain"];
  return member.voter ? ["follower", "plain"] : ["learner", "plain"];
}

export const memberColumns = [
  {
    title: "Member",
    cell: (member) => [h("strong", {}, visible(member.name)), member.own && h("span", { class: "muted" }, " this node")],
    text: (member) => `${member.name} ${member.own}`,
  },
  {
    title: "Role",
    cell: (member) => badge(...memberRole(member, live.status)),
    text: (member) => memberRole(member, live.status).join(),
  },
  { title: "Vote", cell: (member) => (member.voter ? "yes" : "no") },
  {
    title: "State",
    cell: (member) => {
      const [text, kind] = answering(member, live.status);
      return h("span", { class: `state ${kind}` }, text);
    },
    text: (member) => answering(member, live.status).join(),
  },
  {
    title: "Lag",
    kind: "number",
    cell: (member) => {
      if (member.lagEntries !== undefined) return many(member.lagEntries, "entry");
      return member.leader ? "–" : member.own ? many(Number(live.status.lastIndex ?? 0) - Number(live.status.appliedIndex ?? 0), "entry") : "–";
    },
  },
  { title: "Address", kind: "mono", cell: (member) => visible(member.address) },
];

/** The leaders of the last while as a strip of time. */
function timeline() {
  const strip = svg("svg", { class: "timeline", height: 26, role: "img", "aria-label": "Leaders over time" });
  const list = h("ol", { class: "changes" });
  const node = h("div", {}, strip, list);
  let shown = "";
  function set(leaders) {
    const now = Date.now();
    const width = strip.clientWidth;
    const signature = JSON.stringify([leaders.length, leaders.at(-1), width, Math.floor(now / 10_000)]);
    if (signature === shown || width === 0) return;
    shown = signature;
    const names = [...new Set(leaders.map((change) => change.leaderName))].sort();
    const first = Math.max(Number(leaders[0]?.atMs ?? now), now - 86_400_000);
    const begin = Math.min(first, now - 60_000);
    const x = (at) => ((Math.max(at, begin) - begin) / (now - begin)) * width;
    const parts = leaders.flatMap((change, at) => {
      const end = Number(leaders[at + 1]?.atMs ?? now);
      if (end <= begin || !change.leaderName) return [];
      const left = x(Number(change.atMs));
      const room = x(end) - left;
      const kind = (names.indexOf(change.leaderName) % 5) + 1;
      return [
        svg("rect", { class: `reign reign-${kind}`, x: left, y: 0, width: Math.max(1, room - 1), height: 26, rx: 3 }),
        room > 44 && svg("text", { class: "reign-name", x: left + 8, y: 17 }, visible(change.leaderName)),
      ];
    });
    fill(strip, parts);
    const latest = leaders.slice(-6).reverse();
    fill(
      list,
      latest.map((change) =>
        h(
          "li",
          {},
          h("time", { class: "muted" }, moment(change.atMs)),
          h("span", {}, visible(change.leaderName || "nobody")),
          h("span", { class: "muted" }, `term ${whole(change.term)}`),
        ),
      ),
    );
  }
  return { node, set };
}

function nodeFacts(status) {
  const key = status.storageKey ?? {};
  const wal = status.wal ?? {};
  const snapshot = status.snapshot ?? {};
  const certificate = status.certificate;
  const verified = status.lastVerification;
  return [
    ["Connections", `${whole(live.figures.at(-1)?.connections)} on the data plane`],
    ["Release", `${status.version ?? "?"} (${(status.gitSha ?? "").slice(0, 12) || "unknown commit"})`],
    ["Log", `${bytes(wal.sizeBytes)} in ${many(wal.segmentCount, "segment")}, sync policy ${wal.syncPolicy ?? "?"}`],
    ["Applied", `${whole(status.appliedIndex)} of ${whole(status.lastIndex)} entries, ${whole(status.committedIndex)} committed`],
    [
      "Snapshot",
      Number(snapshot.takenAtMs ?? 0) === 0
        ? "none since the start"
        : `${bytes(snapshot.sizeBytes)}, ${relative(snapshot.takenAtMs)}; ${bytes(snapshot.logBytesSince)} of log since`,
    ],
    Number(snapshot.failedCount ?? 0) > 0 && ["Failed snapshots", whole(snapshot.failedCount)],
    ["Storage key", `${span(Number(key.ageSeconds ?? 0) * 1000)} old${key.wrapped ? ", wrapped" : ""}`],
    certificate && ["Certificate", `${visible(certificate.subject)}, ${many(certificate.daysRemaining, "day")} left`],
    ["Last backup", relative(status.lastBackupAtMs)],
    [
      "Last verification",
      verified === undefined
        ? "none since the start"
        : `${relative(verified.endedAtMs)}, ${Number(verified.findingCount ?? 0) === 0 ? "nothing found" : many(verified.findingCount, "finding")}`,
    ],
  ];
}

/** A figure that is read from afar. */
function tile(title, id) {
  const value = h("dd", { id }, "–");
  const more = h("dd", { class: "muted" });
  return { node: h("div", { class: "tile" }, h("dt", {}, title), value, more), value, more };
}

export function overview(root) {
  const body = h("div", { class: "stack" });
  fill(root, pageHead("Overview"), body);
  const tiles = {
    leader: tile("Leader", "tile-leader"),
    term: tile("Term", "tile-term"),
    quorum: tile("May be lost", "tile-tolerance"),
    disk: tile("Disk free", "tile-disk"),
  };
  const members = table({ columns: memberColumns, key: (member) => member.nodeId, caption: "Members of the cluster" });
  const leaders = timeline();
  const charts = CHARTS.map((definition) => ({ definition, chart: chart(definition) }));
  const about = h("div", {});
  const content = [
    h("dl", { class: "tiles" }, Object.values(tiles).map((one) => one.node)),
    card("Members", members.node),
    h("div", { class: "charts" }, charts.map((one) => one.chart.node)),
    h("div", { class: "columns" }, card("Leaders", leaders.node), card("This node", about)),
  ];
  let showing = null;
  let factsShown = "";
  function show(what, ...nodes) {
    if (showing === what) return;
    showing = what;
    fill(body, nodes);
  }
  function draw() {
    if (live.state === "forbidden") {
      return show("forbidden", forbidden(live.refusal, "admin on *", "the cluster"));
    }
    const { status } = live;
    if (status === null) {
      if (live.state === "away") return show("away", empty("The node does not answer", "The page tries again by itself."));
      return show("loading", loading("Waiting for the node"));
    }
    show("content", content);
    setText(tiles.leader.value, status.leader ? visible(status.leader.name) : "none");
    setText(tiles.leader.more, isLeaderless(status) ? reasonText(status.reason) : status.role === "ROLE_LEADER" ? "this node" : status.leader ? visible(status.leader.address ?? "") : reasonText(status.reason));
    setText(tiles.term.value, whole(status.term));
    const change = live.leaders.at(-1);
    setText(tiles.term.more, change ? `since ${clock(change.atMs)}` : "");
    setText(tiles.quorum.value, isLeaderless(status) ? "–" : whole(status.failureTolerance));
    setText(tiles.quorum.more, `of ${many(status.voterCount, "voter")}; a majority is ${whole(status.quorumSize)}`);
    const last = live.figures.at(-1);
    setText(tiles.disk.value, last?.diskFreeBytes === undefined ? "–" : bytes(last.diskFreeBytes));
    setText(tiles.disk.more, last?.diskTotalBytes === undefined ? "" : `of ${bytes(last.diskTotalBytes)}`);
    members.set(memberRows(status));
    for (const one of charts) one.chart.set(live.figures);
    leaders.set(live.leaders);
    const pairs = nodeFacts(status);
    const signature = JSON.stringify(pairs);
    if (signature !== factsShown) {
      factsShown = signature;
      fill(about, facts(pairs));
    }
  }
  const unsubscribe = subscribe(draw);
  draw();
  return () => {
    unsubscribe();
    for (const one of charts) one.chart.dispose();
  };
}
