// What to do about a refusal, by its stable code. docs/error-codes.md has all of them; these are those that a console meets.

const BY_CODE = {
  "ENG-002": "Look at the disk of the node: it may be full or failing. Nothing was changed.",
  "ENG-004": "The document is not a backup of Vaylix, or it was altered. Nothing was changed.",
  "SRV-004": "Look at the disk and the log of the node. If it is the audit log that cannot be written, administration waits until it can.",
  "SRV-005": "The node is starting or stopping. The page tries again by itself.",
  "SRV-007": "Log in again. A session ends with its node, after a while without use, and when its user gets another password.",
  "SRV-008": "Check the name and the password. A few failures in a row lock the name for this address for a while.",
  "SRV-012": "Wait a moment, then try again.",
  "SRV-013": "Make the key, the value or the file smaller, or raise the limit in the settings of the node.",
  "SRV-016": "The node does not offer this, or not as it was started: users and roles need authentication to be on.",
  "SRV-017": "Ask an administrator for a role with the permission, or log in as somebody who has it.",
  "SRV-019": "Choose another name, or change the user that is there.",
  "SRV-020": "The list may be out of date: load it again.",
  "SRV-021": "Choose another name, or change the role that is there.",
  "SRV-022": "The list may be out of date: load it again.",
  "SRV-023": "The role admin stays as it is. Grant other roles instead.",
  "SRV-024": "Make another user an administrator first.",
  "SRV-027": "Use a plain name below the backup directory, like daily.json.",
  "SRV-028": "Stop trusting this audit log, find out who could write it, and follow docs/access.md.",
  "SRV-029": "Do not restore this file. Take another backup, or upload it again from where it is whole.",
  "SRV-030": "Correct the field that is named. If something else has changed meanwhile, look again and repeat it.",
  "SRV-031": "Wait until the lock is over. It ends by itself; further attempts do not prolong it.",
  "SRV-032": "Use at least 12 characters with a letter and a digit.",
  "SRV-033": "Turn maintenance mode off first, or wait until whoever turned it on is done.",
  "SRV-035": "It may have happened or not. Look before you repeat it.",
  "SRV-036": "It may have happened or not: there was no majority to confirm it. Look before you repeat it.",
  "SRV-037": "Do it on the node that leads.",
  "TRN-013": "Check that the node runs and can be reached. If you changed something, it may have happened or not: look before you repeat it.",
  "TRN-016": "It was not begun. Try again when the node has less to do.",
};

const BY_RETRY = {
  backoff: "Nothing happened. Try again after a pause.",
  at_leader: "Nothing happened here. Do it on the node that leads.",
  outcome_unknown: "It may have happened or not. Look before you repeat it.",
  never: "The same request will be refused again: change it, or the node.",
};

/** A sentence or two for somebody who meets this refusal. */
export function advice({ code, retry }) {
  return BY_CODE[code] ?? BY_RETRY[retry] ?? BY_RETRY.never;
}
