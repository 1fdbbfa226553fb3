//! Messages of rtnetlink: requests for an interface, and what the kernel answers or says unasked.
//!
//! The kernel puts some fifty attributes into a message, and each release more. Of these, four are decoded. What is not understood in the
//! others must not keep us from hearing that a link is down.

use std::io;

use ctl::Mac;
use netlink_packet_core::{
    DecodeError, NLM_F_REQUEST, NetlinkDeserializable, NetlinkHeader, NetlinkMessage, NetlinkPayload, NlasIterator,
    ParseableParametrized,
};
use netlink_packet_route::link::{
    LinkAttribute, LinkExtentMask, LinkFlags, LinkHeader, LinkMessage, LinkMessageBuffer, Prop,
};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};
use nix::libc::{ENODEV, IFLA_ADDRESS, IFLA_IFNAME, IFLA_MTU, IFLA_PROP_LIST, RTM_DELLINK, RTM_NEWLINK};

use crate::netlink::interface::{Interface, News};

/// What a message from the kernel says.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Heard {
    News(News),
    /// The request of this number has no answer: there is no such interface.
    NoDevice(u32),
    /// The request of this number is refused, with this error number.
    Refused(u32, i32),
    /// Messages were lost.
    Lost,
    /// Nothing that concerns us.
    Nothing,
}

/// A request for an interface of this name.
pub(super) fn request(name: &str, sequence: u32) -> Vec<u8> {
    let mut link = LinkMessage::default();
    link.attributes = vec![
        LinkAttribute::IfName(name.into()),
        // Counters are not wanted.
        LinkAttribute::ExtMask(vec![LinkExtentMask::SkipStats]),
    ];
    let mut header = NetlinkHeader::default();
    (header.flags, header.sequence_number) = (NLM_F_REQUEST, sequence);
    let payload = NetlinkPayload::InnerMessage(RouteNetlinkMessage::GetLink(link));
    let mut message = NetlinkMessage::new(header, payload);
    message.finalize();
    let mut bytes = vec![0; message.buffer_len()];
    message.serialize(&mut bytes);
    bytes
}

/// Reads the messages of a datagram.
pub(super) fn read(mut datagram: &[u8]) -> io::Result<Vec<Heard>> {
    let mut heard = Vec::new();
    while !datagram.is_empty() {
        let message = NetlinkMessage::<LinkNews>::deserialize(datagram).map_err(io::Error::other)?;
        let length = (message.header.length as usize).next_multiple_of(4);
        heard.push(meaning(message));
        datagram = datagram.get(length..).unwrap_or_default();
    }
    Ok(heard)
}

fn meaning(message: NetlinkMessage<LinkNews>) -> Heard {
    let sequence = message.header.sequence_number;
    match message.payload {
        NetlinkPayload::InnerMessage(LinkNews(Some(news))) => Heard::News(news),
        NetlinkPayload::Error(error) => match -error.raw_code() {
            0 => Heard::Nothing,
            ENODEV => Heard::NoDevice(sequence),
            code => Heard::Refused(sequence, code),
        },
        NetlinkPayload::Overrun(_) => Heard::Lost,
        _ => Heard::Nothing,
    }
}

/// A message about a link, if it concerns us.
#[derive(Debug)]
struct LinkNews(Option<News>);

impl NetlinkDeserializable for LinkNews {
    type Error = DecodeError;

    fn deserialize(header: &NetlinkHeader, payload: &[u8]) -> Result<Self, DecodeError> {
        let gone = header.message_type == RTM_DELLINK;
        if !gone && header.message_type != RTM_NEWLINK {
            return Ok(LinkNews(None));
        }
        let link = LinkHeader::parse(payload)?;
        // A message of a bridge about one of its ports: that it is taken out of the bridge is a deletion, too.
        if link.interface_family != AddressFamily::Unspec {
            return Ok(LinkNews(None));
        }
        if gone {
            return Ok(LinkNews(Some(News::Gone(link.index))));
        }
        let attributes = payload.get(size_of::<LinkMessageBuffer>()..).unwrap_or_default();
        interface(&link, attributes).map(|interface| LinkNews(Some(News::Is(interface))))
    }
}

fn interface(link: &LinkHeader, attributes: &[u8]) -> Result<Interface, DecodeError> {
    let running = LinkFlags::Running | LinkFlags::LowerUp;
    let mut interface = Interface {
        index: link.index,
        names: Vec::new(),
        admin_up: link.flags.contains(LinkFlags::Up),
        running: link.flags.contains(running),
        mac: None,
        mtu: None,
    };
    for attribute in NlasIterator::new(attributes) {
        let attribute = attribute?;
        if ![IFLA_ADDRESS, IFLA_IFNAME, IFLA_MTU, IFLA_PROP_LIST].contains(&attribute.kind()) {
            continue;
        }
        let Ok(attribute) = LinkAttribute::parse_with_param(&attribute, link.interface_family) else { continue };
        match attribute {
            LinkAttribute::Address(bytes) => interface.mac = <[u8; 6]>::try_from(bytes).ok().map(Mac),
            LinkAttribute::Mtu(mtu) => interface.mtu = Some(mtu),
            LinkAttribute::IfName(name) => interface.names.insert(0, name),
            LinkAttribute::PropList(props) => interface.names.extend(props.into_iter().filter_map(alternative_name)),
            _ => {}
        }
    }
    Ok(interface)
}

fn alternative_name(prop: Prop) -> Option<String> {
    match prop {
        Prop::AltIfName(name) => Some(name),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // What kernel 6.18 has said of the veth interface eth7, one message a file.
    const UP: &[u8] = include_bytes!("captured/up.bin");
    const NO_CARRIER: &[u8] = include_bytes!("captured/no_carrier.bin");
    const DOWN: &[u8] = include_bytes!("captured/down.bin");
    /// Renamed to eth8.
    const RENAMED: &[u8] = include_bytes!("captured/renamed.bin");
    /// With an alternative name, and an MTU of 1400.
    const ALTERNATIVE: &[u8] = include_bytes!("captured/alternative.bin");
    /// Taken out of a bridge.
    const LEAVES_BRIDGE: &[u8] = include_bytes!("captured/leaves_bridge.bin");
    const DELETED: &[u8] = include_bytes!("captured/deleted.bin");
    /// The answer to request 77, about an interface that is not there.
    const ABSENT: &[u8] = include_bytes!("captured/absent.bin");

    fn heard(datagram: &[u8]) -> Heard {
        let mut heard = read(datagram).unwrap();
        assert_eq!(heard.len(), 1);
        heard.remove(0)
    }

    fn eth7() -> Interface {
        Interface {
            index: 3,
            names: vec!["eth7".into()],
            admin_up: true,
            running: true,
            mac: Some(Mac([2, 0, 0, 0, 0, 7])),
            mtu: Some(1_500),
        }
    }

    fn is(interface: Interface) -> Heard {
        Heard::News(News::Is(interface))
    }

    #[test]
    fn a_link_is_up_without_carrier_or_down() {
        assert_eq!(heard(UP), is(eth7()));
        assert_eq!(heard(NO_CARRIER), is(Interface { running: false, ..eth7() }));
        assert_eq!(heard(DOWN), is(Interface { admin_up: false, running: false, ..eth7() }));
        let up = |bytes| matches!(heard(bytes), Heard::News(News::Is(interface)) if interface.is_up());
        assert_eq!([UP, NO_CARRIER, DOWN].map(up), [true, false, false]);
    }

    #[test]
    fn names_mtu_and_the_end_of_an_interface_are_told() {
        let down = Interface { admin_up: false, running: false, names: vec!["eth8".into()], ..eth7() };
        assert_eq!(heard(RENAMED), is(down.clone()));
        let names = vec!["eth8".into(), "front-side".into()];
        let alternative = Interface { names, mtu: Some(1_400), ..down };
        assert!(
            ["eth8", "front-side"].iter().all(|name| alternative.is_called(name)) && !alternative.is_called("eth7")
        );
        assert_eq!(heard(ALTERNATIVE), is(alternative));
        assert_eq!(heard(DELETED), Heard::News(News::Gone(3)));
        assert_eq!(heard(ABSENT), Heard::NoDevice(77));
        assert_eq!(heard(LEAVES_BRIDGE), Heard::Nothing, "it is still there");
    }

    #[test]
    fn a_datagram_has_any_number_of_messages_and_may_be_damaged() {
        assert_eq!(read(&[UP, ALTERNATIVE, DELETED].concat()).unwrap().len(), 3);
        assert_eq!(read(&[]).unwrap(), []);
        for length in 1..UP.len() {
            // Cut off anywhere: an error, no panic.
            read(&UP[..length]).unwrap_err();
        }
        for byte in 0..UP.len() {
            let mut damaged = UP.to_vec();
            damaged[byte] ^= 0xff;
            let _ = read(&damaged);
        }
    }

    #[test]
    fn what_is_not_understood_in_other_attributes_does_no_harm() {
        // The attribute that says to which bridge an interface belongs (IFLA_LINKINFO, 18) and IFLA_AF_SPEC (26), of lengths that
        // they never have.
        let unknown = [[5, 0, 18, 0, 9, 0, 0, 0], [5, 0, 26, 0, 9, 0, 0, 0], [5, 0, 255, 0, 9, 0, 0, 0]].concat();
        let mut message = [&UP[..32], &unknown, &UP[32..]].concat();
        let length = u32::try_from(message.len()).unwrap();
        message[..4].copy_from_slice(&length.to_ne_bytes());
        assert_eq!(heard(&message), is(eth7()));
    }

    #[test]
    fn news_without_everything_are_completed_with_what_was_known() {
        let short = Interface { running: false, names: vec![], mac: None, mtu: None, ..eth7() };
        assert_eq!(short.or(&eth7()), Interface { running: false, ..eth7() });
        let changed = Interface { mtu: Some(9_000), mac: Some(Mac([2; 6])), ..eth7() };
        assert_eq!(changed.clone().or(&eth7()), changed);
    }

    #[test]
    fn a_request_is_for_one_interface() {
        let request = request("eth7", 5);
        let header = NetlinkMessage::<RouteNetlinkMessage>::deserialize(&request).unwrap();
        assert_eq!((header.header.sequence_number, header.header.flags), (5, NLM_F_REQUEST));
        let NetlinkPayload::InnerMessage(RouteNetlinkMessage::GetLink(link)) = header.payload else {
            panic!("no GETLINK")
        };
        assert_eq!(link.attributes[0], LinkAttribute::IfName("eth7".into()));
    }
}
