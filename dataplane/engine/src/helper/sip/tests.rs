//! Messages as telephones send them, and as nobody should.

use std::net::IpAddr;

use super::*;

const SDP: &str = "v=0\r\no=- 1 1 IN IP4 10.1.0.9\r\nc=IN IP4 10.1.0.2\r\nt=0 0\r\nm=audio 49170 RTP/AVP 0\r\n\
                   m=video 50000 RTP/AVP 31\r\nc=IN IP4 10.1.0.3\r\nm=audio 0 RTP/AVP 0\r\nc=IN IP4 10.1.0.4\r\n\
                   m=image 53 udptl t38\r\n";

fn invite(start: &str, body: &str) -> String {
    format!(
        "{start}\r\nVia: SIP/2.0/UDP 10.1.0.2;received=10.9.0.1; rport=7\r\nCSeq: 7 INVITE\r\n\
         m: <sip:a@10.1.0.2:5062>;expires=60\r\nl: {}\r\n\r\n{body}",
        body.len()
    )
}

fn at(text: &str, span: Span) -> &str {
    &text[span.start.into()..span.end.into()]
}

fn address(last: u8) -> IpAddr {
    IpAddr::from([10, 1, 0, last])
}

#[test]
fn requests_and_answers() {
    let request = invite("INVITE sip:b@10.2.0.2 SIP/2.0", SDP);
    let message = read(request.as_bytes(), true).unwrap();
    assert_eq!((message.method, message.answer, message.sequence), (Some(Method::Invite), None, 7));
    assert_eq!(message.length, request.len());
    let contact = message.contact(Family::V4, true).unwrap();
    assert_eq!((contact.at.address, contact.at.port, contact.expires), (Some(address(2)), 5062, Some(60)));
    assert_eq!(at(&request, contact.place), "10.1.0.2:5062");
    assert_eq!(at(&request, message.request(Family::V4).unwrap().at), "10.2.0.2");
    let (length, place) = message.content_length().unwrap();
    assert_eq!((length as usize, at(&request, place)), (SDP.len(), &*SDP.len().to_string()));
    let answer = invite("SIP/2.0 200 OK", SDP);
    let message = read(answer.as_bytes(), false).unwrap();
    assert_eq!((message.answer, message.method), (Some(200), Some(Method::Invite)));
    assert_eq!(message.request(Family::V4), None);
}

#[test]
fn media_with_addresses_of_their_own_or_of_the_session() {
    let request = invite("INVITE sip:b@10.2.0.2 SIP/2.0", SDP);
    let message = read(request.as_bytes(), true).unwrap();
    let sdp = message.sdp(Family::V4);
    let media: Vec<_> = sdp.media.iter().flatten().map(|m| (m.class, m.address, m.port)).collect();
    assert_eq!(media, [(AUDIO, address(2), 49170), (VIDEO, address(3), 50000)]);
    assert_eq!(at(&request, sdp.media[0].unwrap().port_at), "49170");
    assert_eq!(at(&request, sdp.media[1].unwrap().address_at.unwrap()), "10.1.0.3");
    assert_eq!(sdp.owner.map(|(owner, place)| (owner, at(&request, place))), Some((address(9), "10.1.0.9")));
    assert_eq!(sdp.connection.map(|(address, _)| address), Some(address(2)));
    assert_eq!(message.sdp(Family::V6), Sdp::default());
}

#[test]
fn what_the_topmost_via_says() {
    let request = invite("OPTIONS sip:b SIP/2.0", "");
    let via = read(request.as_bytes(), true).unwrap().via(Family::V4, true).unwrap();
    assert_eq!((via.uri.address, via.uri.port, at(&request, via.uri.at)), (address(2), 5060, "10.1.0.2"));
    assert_eq!(via.received.map(|received| at(&request, received.at)), Some("10.9.0.1"));
    assert_eq!(via.rport.map(|rport| (rport.value, at(&request, rport.at))), Some((7, "7")));
    assert_eq!(via.maddr, None);
    let message = read(request.as_bytes(), true).unwrap();
    assert_eq!(message.via(Family::V4, false), None, "of another transport");
}

#[test]
fn what_is_no_message_says_nothing() {
    let whole = invite("INVITE sip:b@10.2.0.2 SIP/2.0", SDP);
    for (name, payload, alone) in [
        ("empty", "", true),
        ("one line", "INVITE sip:b@10.2.0.2 SIP/2.0", true),
        ("of a stream, no end of headers", &whole[..100], false),
        ("of a stream, cut", &whole[..whole.len() - 1], false),
        ("of a stream, no length", &whole.replace("l: ", "x: "), false),
    ] {
        assert!(read(payload.as_bytes(), alone).is_none(), "{name}");
    }
    for (name, payload) in [
        ("another method", whole.replace("7 INVITE", "7 OPTIONS")),
        ("another method than its number's", whole.replace("7 INVITE", "7 BYE")),
        ("no CSeq", whole.replace("CSeq", "XSeq")),
        ("an answer without a code", invite("SIP/2.0 OK", SDP)),
    ] {
        assert_eq!(read(payload.as_bytes(), true).unwrap().method, None, "{name}");
    }
}

#[test]
fn contacts_of_both_families() {
    for (value, family, expected) in [
        ("<sip:a@10.1.0.2>", Family::V4, Some(("10.1.0.2", 5060))),
        ("sip:10.1.0.2:6000;transport=udp", Family::V4, Some(("10.1.0.2", 6000))),
        ("\r\n <SIP:a;b=c@10.1.0.2:6000>", Family::V4, Some(("10.1.0.2", 6000))),
        ("<sip:a@[fd00:1::2]:5070>", Family::V6, Some(("fd00:1::2", 5070))),
        ("<sip:a@10.1.0.2>", Family::V6, None),
        ("<sip:a@example.org>", Family::V4, None),
        ("<sip:a@10.1.0.2:0>", Family::V4, None),
        ("<sip:a@10.1.0.2:1023>", Family::V4, None),
        ("<sip:a@10.1.0.2;transport=tcp>", Family::V4, None),
        ("<sips:a@10.1.0.2>", Family::V4, None),
        ("<sip:a@10.1.0.2>;expires=x", Family::V4, None),
        ("*", Family::V4, None),
    ] {
        let text = format!("REGISTER sip:x SIP/2.0\r\nCSeq: 1 REGISTER\r\nContact: {value}\r\n\r\n");
        let contact = read(text.as_bytes(), true).unwrap().contact(family, true);
        let found = contact.map(|contact| (contact.at.address.unwrap().to_string(), contact.at.port));
        assert_eq!(found, expected.map(|(host, port)| (host.to_owned(), port)), "{value}");
    }
}

#[test]
fn all_contacts_and_both_parties() {
    let text = "OPTIONS sip:x SIP/2.0\r\nm: <sip:a@10.1.0.2>, \"x\" <sip:b@10.1.0.3:5070;q=1>,<sip:c@host>\r\n\
                f: sip:10.1.0.4\r\nTo: \"y\" <sip:d@10.1.0.5>\r\nContact:\r\n\t<sip:e@10.1.0.6>";
    let message = read(text.as_bytes(), true).unwrap();
    let contacts: Vec<_> = message.contacts(Family::V4).map(|uri| at(text, uri.at)).collect();
    assert_eq!(contacts, ["10.1.0.2", "10.1.0.3:5070", "10.1.0.6"]);
    let parties: Vec<_> = message.parties(Family::V4).map(|uri| at(text, uri.at)).collect();
    assert_eq!(parties, ["10.1.0.4", "10.1.0.5"]);
}
