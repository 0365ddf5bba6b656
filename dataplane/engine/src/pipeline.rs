//! The path of a packet, as a table of contents: netfilter's order, a stage a line, each in a file of its own.
//!
//! Before this, for a burst at once: [`crate::stage::admit`] (parse, whose frame is it, hand over), `raw`, the
//! look-up of flows, the tracker, and for packets of known flows the stored decision in place of all that stands
//! here. Behind it: [`crate::stage::settle`], which counts each packet where it ended.

use std::convert::Infallible;
use std::ops::ControlFlow;

use crate::ruleset::Hook;
use crate::stage::{
    confirm, deliver, filter, helper, mtu, nat, nat64, options, redirect, route, source, track, transmit, ttl,
};
use crate::transit::{Destination, Transit};
use crate::verdict::Verdict;

/// What a stage says: go on, or this becomes of the packet.
pub(crate) type Step = ControlFlow<Verdict>;

/// What the last stage of a path says: it knows what becomes of the packet.
pub(crate) type End = ControlFlow<Verdict, Infallible>;

/// A packet from the wire, classified by the tracker.
pub(crate) fn received(t: &mut Transit<'_, '_, '_>) -> End {
    filter::at(t, Hook::ManglePrerouting)?;
    nat::prerouting(t)?;
    route::input(t)?;
    source::check(t)?;
    options::check(t)?;
    match t.destination {
        Destination::Onward(_) => forward(t),
        _ => input(t),
    }
}

/// To the box itself.
fn input(t: &mut Transit<'_, '_, '_>) -> End {
    filter::at(t, Hook::FilterInput)?;
    nat::input(t)?;
    helper::help(t)?;
    confirm::confirm(t)?;
    deliver::deliver(t)
}

/// Through the router. TTL and MTU come before the filter, and so do their errors.
fn forward(t: &mut Transit<'_, '_, '_>) -> End {
    ttl::check(t)?;
    redirect::tell(t);
    mtu::check(t)?;
    ttl::decrement(t);
    filter::at(t, Hook::FilterForward)?;
    postrouting(t)
}

/// What the box itself sends; the first route is the box's own, so the filter sees where it leaves by.
pub(crate) fn sent(t: &mut Transit<'_, '_, '_>) -> End {
    route::output(t)?;
    filter::at(t, Hook::RawOutput)?;
    track::output(t)?;
    filter::at(t, Hook::MangleOutput)?;
    nat::output(t)?;
    filter::at(t, Hook::FilterOutput)?;
    match t.destination {
        Destination::Onward(_) => {
            mtu::check(t)?;
            postrouting(t)
        }
        _ => {
            nat::input(t)?;
            deliver::deliver(t)
        }
    }
}

/// Out by an interface.
fn postrouting(t: &mut Transit<'_, '_, '_>) -> End {
    filter::at(t, Hook::ManglePostrouting)?;
    nat::postrouting(t)?;
    helper::help(t)?;
    confirm::confirm(t)?;
    options::fill(t);
    nat64::leave(t)?;
    transmit::transmit(t)
}
