//! This module knows what each alarm means for whoever is looking, and what to do about it.
//! `docs/operations.md` says it at length, under the same codes.

/// What an alarm means, and what to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Advice {
    pub(crate) code: &'static str,
    pub(crate) means: &'static str,
    pub(crate) action: &'static str,
}

const ADVICE: &[Advice] = &[
    Advice {
        code: "refused",
        means: "it serves reads from what it holds and takes no writes; it counts towards no majority",
        action: "its reason is above; if it belongs elsewhere, mend the topology or its --data and \
                 start it again",
    },
    Advice {
        code: "joining",
        means: "it serves reads; it counts towards no majority until it has taken its predecessor's \
                place",
        action: "nothing: it fills itself and joins; if that lasts, look at its links to the leader",
    },
    Advice {
        code: "uninvited",
        means: "it serves reads, passes writes on and follows; its region's voters do not count it in",
        action: "`chartmesh node add NODE`, or take it out of the topology",
    },
    Advice {
        code: "isolated",
        means: "it serves reads; its writes go into a journal of its own and reach the others when \
                links are back",
        action: "bring back its links, or a majority of its region's voters; it returns by itself",
    },
    Advice {
        code: "fork",
        means: "one feed has two histories; neither is dropped, and the feed is not followed there \
                any more",
        action: "`chartmesh verify` names the first change that differs; keep both disks",
    },
    Advice {
        code: "lost",
        means: "a change that no node could give was passed over; it is missing there for good",
        action: "tell those who know the patients; fill the node anew if a disk with it turns up",
    },
    Advice {
        code: "divergence",
        means: "two nodes hold the same changes and have made different records of them",
        action: "`chartmesh verify --deep` tells which one is wrong; stop that one, and fill it anew",
    },
    Advice {
        code: "behind",
        means: "reads there lack what others have had for a while",
        action: "look at its links, its disk and its load",
    },
    Advice {
        code: "format",
        means: "changes are written by newer software than this node's: it holds them and cannot \
                show them",
        action: "update its software",
    },
    Advice {
        code: "clock",
        means: "no record changes hands because of it, but its times are wrong, and it does not lead",
        action: "look at its time service (NTP)",
    },
    Advice {
        code: "certificate-ends",
        means: "from then on no other node speaks to it",
        action: "`chartmesh certs --renew NODE`, and copy the files there; no restart is needed",
    },
    Advice {
        code: "certificate-broken",
        means: "it goes on with the certificate that it has, until that ends",
        action: "put files there that belong together: ca.pem, NODE.pem, NODE.key",
    },
    Advice {
        code: "disk",
        means: "its clients' writes are refused (507); reads go on, and so does what it gives to others",
        action: "make room on the disk of its --data, or give it a larger one",
    },
];

/// What is known of an alarm.
pub(crate) fn advice(code: &str) -> Option<&'static Advice> {
    ADVICE.iter().find(|advice| advice.code == code)
}
