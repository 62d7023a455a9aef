//! The text against the one that Linux 6.18 printed.

use super::*;

fn row(local: u16, remote: u16, state: TcpState) -> TcpRow {
    TcpRow {
        local: SocketAddr::from(([127, 0, 0, 1], local)),
        remote: SocketAddr::from(([127, 0, 0, 1], remote)),
        state,
        tx_queue: 0,
        rx_queue: 0,
        timer: TcpTimer::Off,
        when: 0,
        retransmits: 0,
        uid: 0,
        probes: 0,
        inode: 0,
        refs: 1,
        cookie: 0,
        conn: None,
    }
}

fn conn(ato: u32, quick: u32, cwnd: u32) -> Option<Conn> {
    Some(Conn { rto: 20, ato, quick, pingpong: false, cwnd, ssthresh: -1 })
}

fn time_wait(local: u16, remote: u16, cookie: u64) -> TcpRow {
    // The kernel prints an orphan in FIN-WAIT-2, which is the same small socket, with that state.
    let row = row(local, remote, TcpState::FinWait2);
    TcpRow { timer: TcpTimer::TimeWait, when: 0x1753, refs: 3, cookie, ..row }
}

#[test]
fn tcp_is_the_kernels_text() {
    let listener = Conn { rto: 100, ato: 0, quick: 0, pingpong: false, cwnd: 10, ssthresh: 0 };
    let rows = [
        TcpRow {
            remote: SocketAddr::from(([0, 0, 0, 0], 0)),
            rx_queue: 1,
            inode: 38744,
            refs: 2,
            cookie: 0xc2c946e3,
            conn: Some(listener),
            ..row(45001, 0, TcpState::Listen)
        },
        TcpRow {
            rx_queue: 50,
            inode: 38746,
            cookie: 0x0218f43b,
            conn: conn(4, 15, 11),
            ..row(45001, 0xa252, TcpState::Established)
        },
        TcpRow { rx_queue: 1, cookie: 0x71e5249a, conn: conn(4, 0, 10), ..row(45001, 0xa26e, TcpState::CloseWait) },
        time_wait(45001, 0xa262, 0x76206972),
        TcpRow {
            rx_queue: 3000,
            inode: 38745,
            cookie: 0xb29b3ba4,
            conn: conn(4, 10, 11),
            ..row(0xa252, 45001, TcpState::Established)
        },
        TcpRow {
            rx_queue: 1,
            inode: 38747,
            refs: 2,
            cookie: 0x3209981f,
            conn: conn(4, 0, 10),
            ..row(0xa262, 45001, TcpState::CloseWait)
        },
        time_wait(0xa26e, 45001, 0x33f9d99e),
    ];
    assert_eq!(tcp(&rows), include_str!("../captured/tcp"));
}

#[test]
fn every_column_stands_where_the_kernel_has_it() {
    let full = TcpRow {
        local: SocketAddr::from(([10, 9, 0, 1], 80)),
        remote: SocketAddr::from(([10, 9, 0, 2], 50_000)),
        state: TcpState::Closing,
        tx_queue: 0xabcdef,
        rx_queue: 0x123456,
        timer: TcpTimer::Probe,
        when: 0x77,
        retransmits: 3,
        uid: 1000,
        probes: 2,
        inode: 99,
        refs: 4,
        cookie: 0xfeed,
        conn: Some(Conn { rto: 30, ato: 4, quick: 7, pingpong: true, cwnd: 20, ssthresh: 15 }),
    };
    let text = tcp(&[full]);
    assert_eq!(
        text.lines().nth(1).map(str::trim_end),
        Some(
            "   0: 0100090A:0050 0200090A:C350 0B 00ABCDEF:00123456 04:00000077 00000003  1000        2 99 4 \
             000000000000feed 30 4 15 20 15"
        )
    );
    assert!(text.lines().all(|line| line.len() == 149));
}

#[test]
fn a_request_prints_as_syn_received_and_ends_at_the_pointer() {
    let request = TcpRow { timer: TcpTimer::Retransmit, when: 100, ..row(80, 5000, TcpState::NewSynRecv) };
    assert_eq!(
        tcp(&[request]).lines().nth(1).map(str::trim_end),
        Some(
            "   0: 0100007F:0050 0100007F:1388 03 00000000:00000000 01:00000064 00000000     0        0 0 1 \
             0000000000000000"
        )
    );
}

#[test]
fn rows_with_ipv6_are_left_out_and_do_not_number() {
    let six = TcpRow { local: "[::1]:80".parse().expect("an address"), ..row(80, 1, TcpState::Established) };
    let mapped =
        TcpRow { local: "[::ffff:127.0.0.1]:80".parse().expect("an address"), ..row(80, 1, TcpState::Established) };
    let text = tcp(&[six, mapped, row(81, 1, TcpState::Established)]);
    assert_eq!(text.lines().count(), 2);
    assert!(text.lines().nth(1).is_some_and(|line| line.starts_with("   0: 0100007F:0051 ")));
}

#[test]
fn without_sockets_the_heading_stands_alone() {
    let text = tcp(&[]);
    assert_eq!(text.len(), 150);
    assert!(text.starts_with(
        "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode  "
    ));
}
