//! Whose socket it is, as Linux tells it.

use std::fs;
use std::net::{IpAddr, SocketAddr};

/// Which of `processes` owns the socket that is connected from `local` to `remote`; both on this machine, IPv4.
pub(super) fn among(processes: &[Option<u32>], local: SocketAddr, remote: SocketAddr) -> Option<usize> {
    let table = fs::read_to_string("/proc/net/tcp").ok()?;
    let inode = inode(&table, local, remote)?;
    let name = format!("socket:[{inode}]");
    processes.iter().position(|process| {
        let Some(files) = process.and_then(|id| fs::read_dir(format!("/proc/{id}/fd")).ok()) else {
            return false;
        };
        files
            .flatten()
            .any(|file| fs::read_link(file.path()).is_ok_and(|target| target.as_os_str() == name.as_str()))
    })
}

/// The socket's inode in a table of connections: number, local and remote address, state, queues, timer,
/// retransmissions, user, timeout, inode.
fn inode(table: &str, local: SocketAddr, remote: SocketAddr) -> Option<u64> {
    let (local, remote) = (shown(local)?, shown(remote)?);
    table.lines().find_map(|line| {
        let mut fields = line.split_whitespace().skip(1);
        let ends = (fields.next()?, fields.next()?);
        (ends == (local.as_str(), remote.as_str())).then(|| fields.nth(6)?.parse().ok())?
    })
}

/// An address as the table has it: the bytes as one number of this machine, and the port.
fn shown(address: SocketAddr) -> Option<String> {
    match address.ip() {
        IpAddr::V4(ip) => Some(format!("{:08X}:{:04X}", u32::from_ne_bytes(ip.octets()), address.port())),
        IpAddr::V6(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[cfg(target_endian = "little")]
    fn the_table_is_read() {
        let table = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n   \
                     0: 0100007F:1F90 0100007F:0050 01 00000000:00000000 00:00000000 00000000  1000        0 4711 1 0\n";
        let at = |port| SocketAddr::from(([127, 0, 0, 1], port));
        assert_eq!(inode(table, at(8080), at(80)), Some(4711));
        assert_eq!(inode(table, at(80), at(8080)), None);
    }
}
