//! A conversation on the system's bus: calls that are answered in time, properties, signals.

use std::{error::Error, time::Duration};

use nix::sys::socket::UnixAddr;
use rustbus::{
    MessageBuilder, MessageType, RpcConn,
    connection::{Error as BusError, Timeout, get_system_bus_path, ll_conn::force_finish_on_error},
    message_builder::MarshalledMessage,
    standard_messages,
    wire::unmarshal::traits::Variant,
};

pub(super) type Failed = Box<dyn Error + Send + Sync>;

/// A service that takes longer has hung up.
const ANSWER: Timeout = Timeout::Duration(Duration::from_secs(5));

/// An object of a service, by one of its interfaces.
#[derive(Debug, Clone, Copy)]
pub(super) struct Object<'a> {
    pub service: &'a str,
    pub path: &'a str,
    pub interface: &'a str,
}

/// A connection to the bus.
pub(super) struct Bus {
    connection: RpcConn,
}

impl Bus {
    /// To the system's bus, or to the one that `DBUS_SYSTEM_BUS_ADDRESS` names.
    pub(super) fn connect() -> Result<Self, Failed> {
        let mut connection = RpcConn::connect_to_path(address()?, ANSWER)?;
        // Nobody has a reason to call us.
        connection.set_filter(Box::new(|message| !matches!(message.typ, MessageType::Call)));
        Ok(Self { connection })
    }

    /// Calls a method with these arguments.
    pub(super) fn call(&mut self, object: Object<'_>, method: &str, arguments: &[&str]) -> Result<MarshalledMessage, Failed> {
        let call = MessageBuilder::new().call(method).on(object.path).with_interface(object.interface).at(object.service);
        let mut call = call.build();
        for argument in arguments {
            call.body.push_param(*argument)?;
        }
        self.ask(&mut call)
    }

    /// Reads a property with what `take` makes of its value.
    pub(super) fn property<T>(
        &mut self,
        object: Object<'_>,
        name: &str,
        take: impl FnOnce(&Variant<'_, '_>) -> Option<T>,
    ) -> Result<T, Failed> {
        let properties = Object { interface: "org.freedesktop.DBus.Properties", ..object };
        let answer = self.call(properties, "Get", &[object.interface, name])?;
        let value: Variant<'_, '_> = answer.body.parser().get()?;
        take(&value).ok_or_else(|| format!("the property {name} is of another kind").into())
    }

    /// Asks to be told of signals.
    pub(super) fn listen(&mut self, rule: &str) -> Result<(), Failed> {
        self.ask(&mut standard_messages::add_match(rule)).map(drop)
    }

    /// The next signal, if one comes within that time.
    pub(super) fn signal(&mut self, within: Duration) -> Result<Option<MarshalledMessage>, Failed> {
        match self.connection.wait_signal(Timeout::Duration(within)) {
            Ok(signal) => Ok(Some(signal)),
            Err(BusError::TimedOut) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    fn ask(&mut self, call: &mut MarshalledMessage) -> Result<MarshalledMessage, Failed> {
        let serial = self.connection.send_message(call)?.write(ANSWER).map_err(force_finish_on_error)?;
        let answer = self.connection.wait_response(serial, ANSWER)?;
        match answer.typ {
            MessageType::Error => {
                let words = answer.body.parser().get::<String>().ok();
                Err(words.or(answer.dynheader.error_name.clone()).unwrap_or_else(|| "the service refuses".into()).into())
            }
            _ => Ok(answer),
        }
    }
}

/// Where the system's bus is: at its usual place, unless the environment names another one, as D-Bus has it.
fn address() -> Result<UnixAddr, Failed> {
    match std::env::var("DBUS_SYSTEM_BUS_ADDRESS") {
        Ok(text) => parse(&text),
        Err(_) => Ok(get_system_bus_path()?),
    }
}

/// `unix:path=...` or `unix:abstract=...`, with more keys behind.
fn parse(text: &str) -> Result<UnixAddr, Failed> {
    let keys = text.strip_prefix("unix:").map(|keys| keys.split(',').filter_map(|key| key.split_once('=')));
    for (key, value) in keys.into_iter().flatten() {
        match key {
            "path" => return Ok(UnixAddr::new(value)?),
            "abstract" => return Ok(UnixAddr::new_abstract(value.as_bytes())?),
            _ => {}
        }
    }
    Err(format!("DBUS_SYSTEM_BUS_ADDRESS is `{text}`, which is not a unix socket").into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bus_is_found_by_its_path_or_its_abstract_name() {
        let path = parse("unix:path=/tmp/bus,guid=1").expect("an address");
        assert_eq!(path.path(), Some(std::path::Path::new("/tmp/bus")));
        assert_eq!(parse("unix:abstract=bus").expect("an address").as_abstract(), Some(&b"bus"[..]));
        assert!(parse("tcp:host=x").is_err() && parse("").is_err());
    }
}
