//! The types of routes.

/// What becomes of packets that match a route, with the kernel's number (`RTN_*`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum RouteKind {
    /// They go out.
    #[default]
    Unicast = 1,
    /// They are for this host.
    Local = 2,
    /// They are for all hosts of a link, this one included.
    Broadcast = 3,
    /// They vanish.
    Blackhole = 6,
    /// They are refused as unreachable.
    Unreachable = 7,
    /// They are refused as forbidden.
    Prohibit = 8,
}

impl RouteKind {
    /// All kinds.
    pub const ALL: [RouteKind; 6] = [
        RouteKind::Unicast,
        RouteKind::Local,
        RouteKind::Broadcast,
        RouteKind::Blackhole,
        RouteKind::Unreachable,
        RouteKind::Prohibit,
    ];

    /// iproute2's word.
    pub const fn name(self) -> &'static str {
        match self {
            RouteKind::Unicast => "unicast",
            RouteKind::Local => "local",
            RouteKind::Broadcast => "broadcast",
            RouteKind::Blackhole => "blackhole",
            RouteKind::Unreachable => "unreachable",
            RouteKind::Prohibit => "prohibit",
        }
    }

    /// Whether packets go to an interface or came to one: the route names it.
    pub const fn has_interface(self) -> bool {
        matches!(self, RouteKind::Unicast | RouteKind::Local | RouteKind::Broadcast)
    }

    #[inline(always)]
    pub(super) fn of_number(number: u8) -> RouteKind {
        match number {
            2 => RouteKind::Local,
            3 => RouteKind::Broadcast,
            6 => RouteKind::Blackhole,
            7 => RouteKind::Unreachable,
            8 => RouteKind::Prohibit,
            _ => RouteKind::Unicast,
        }
    }
}
