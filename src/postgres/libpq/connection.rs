//! A connection of libpq's own, which tells the SQLSTATE of whatever is refused.
//!
//! It is slower than Diesel's and knows no types, so it is only for finding out why something failed.

use crate::c_text::c_text;
use crate::postgres::sqlstate::SqlState;
use libc::{POLLIN, POLLOUT, pollfd};
use pq_sys::{
    ConnStatusType, ExecStatusType, PG_DIAG_MESSAGE_PRIMARY, PG_DIAG_SQLSTATE, PGVerbosity, PGconn, PGresult,
    PQbackendPID, PQclear, PQcmdTuples, PQconnectPoll, PQconnectStart, PQconnectionNeedsPassword,
    PQconsumeInput, PQerrorMessage, PQexecParams, PQfinish, PQgetResult, PQgetvalue, PQhostaddr, PQisBusy,
    PQntuples, PQputCopyData, PQputCopyEnd, PQresultErrorField, PQresultStatus, PQsendQuery,
    PQsetErrorVerbosity, PQsocket, PQsslInUse, PQstatus, PostgresPollingStatusType,
};
use std::ffi::{CStr, CString, c_char, c_int};
use std::io::{self, Write};
use std::ptr::{self, NonNull};
use std::time::{Duration, Instant};

/// Why a connection was not made, or a statement not executed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::postgres) struct Refused {
    /// The server's code; `None` if no server said anything.
    pub(in crate::postgres) sqlstate: Option<SqlState>,
    /// Whether the server asks for a password and there is none.
    pub(in crate::postgres) lacks_password: bool,
    /// Whether it ended between the first packet and the end of the TLS handshake.
    pub(in crate::postgres) in_tls: bool,
    /// What libpq or the server says.
    pub(in crate::postgres) message: String,
}

impl Refused {
    /// Whether a server has said something, and not only closed the connection.
    pub(in crate::postgres) fn is_answer(&self) -> bool {
        self.sqlstate.is_some() || self.lacks_password
    }

    /// Nobody has said anything.
    pub(in crate::postgres) fn silence() -> Self {
        let message = "it does not answer".to_owned();
        Self { sqlstate: None, lacks_password: false, in_tls: false, message }
    }
}

/// See the module. Null if there is no memory for it.
pub(in crate::postgres) struct Connection(*mut PGconn);

impl Drop for Connection {
    fn drop(&mut self) {
        // SAFETY: the pointer is null or a connection that nobody else has, and is not used afterwards.
        unsafe { PQfinish(self.0) }
    }
}

impl Connection {
    /// Connects.
    ///
    /// # Errors
    /// Why not. A server that has not answered `within` that time counts as silent.
    pub(in crate::postgres) fn open(string: &str, within: Duration) -> Result<Self, Refused> {
        let deadline = Instant::now() + within;
        let string = CString::new(string).unwrap_or_default();
        let connection = Self::start(&string);
        let Some(pointer) = connection.pointer() else { return Err(connection.refused(false)) };
        // SAFETY: `pointer` is a connection that lives until the end of this function or is returned.
        unsafe {
            // From here on the server's sentences carry its code.
            PQsetErrorVerbosity(pointer, PGVerbosity::PQERRORS_VERBOSE);
            let mut awaited = POLLOUT;
            while PQstatus(pointer) != ConnStatusType::CONNECTION_BAD
                && wait(PQsocket(pointer), awaited, deadline)
            {
                let in_tls = PQstatus(pointer) == ConnStatusType::CONNECTION_SSL_STARTUP;
                match PQconnectPoll(pointer) {
                    PostgresPollingStatusType::PGRES_POLLING_OK => return Ok(connection),
                    PostgresPollingStatusType::PGRES_POLLING_FAILED => return Err(connection.refused(in_tls)),
                    PostgresPollingStatusType::PGRES_POLLING_READING => awaited = POLLIN,
                    _ => awaited = POLLOUT,
                }
            }
        }
        Err(connection.refused(false))
    }

    /// Begins to connect.
    pub(super) fn start(string: &CStr) -> Self {
        // SAFETY: the string ends in zero; `drop` frees what is returned.
        Self(unsafe { PQconnectStart(string.as_ptr()) })
    }

    /// A connection that libpq made. From here on it is freed here.
    pub(super) fn of(pointer: *mut PGconn) -> Self {
        Self(pointer)
    }

    /// The connection for libpq.
    pub(super) fn pointer(&self) -> Option<*mut PGconn> {
        NonNull::new(self.0).map(NonNull::as_ptr)
    }

    /// What libpq says of it.
    pub(super) fn message(&self) -> String {
        // SAFETY: the pointer is null, for which libpq has a sentence, or a connection that is alive.
        unsafe { c_text(PQerrorMessage(self.0)) }.trim_end().to_owned()
    }

    fn refused(&self, in_tls: bool) -> Refused {
        let message = self.message();
        // SAFETY: as above; of null it says no.
        let lacks_password = unsafe { PQconnectionNeedsPassword(self.0) } == 1;
        // libpq begins a sentence before it knows how it ends.
        let message = match message.strip_suffix("failed:") {
            Some(begun) => format!("{begun}failed: it does not answer"),
            None if message.is_empty() => "it does not answer".to_owned(),
            None => message,
        };
        Refused { sqlstate: SqlState::in_message(&message), lacks_password, in_tls, message }
    }

    /// Executes a statement with parameters in Postgres's binary format, each with the oid of its type. Returns
    /// how many rows it took.
    ///
    /// # Errors
    /// What the server refused.
    pub(in crate::postgres) fn execute(
        &mut self,
        sql: &str,
        parameters: &[(u32, Option<Vec<u8>>)],
    ) -> Result<usize, Refused> {
        self.run(sql, parameters).map(|(_, rows)| rows)
    }

    /// Executes `COPY … FROM STDIN` with the bytes that `write` writes. Returns how many rows it took.
    ///
    /// # Errors
    /// What the server refused.
    pub(in crate::postgres) fn copy_in(
        &mut self,
        sql: &str,
        write: impl FnOnce(&mut dyn Write) -> io::Result<()>,
    ) -> Result<usize, Refused> {
        if self.run(sql, &[])?.0 != ExecStatusType::PGRES_COPY_IN {
            return Err(self.refused(false));
        }
        // What goes wrong here, the answer below says.
        let _ = write(&mut Stream(self.0));
        // SAFETY: the connection is alive and in the state COPY IN.
        unsafe {
            PQputCopyEnd(self.0, ptr::null());
            self.judge(PQgetResult(self.0)).map(|(_, rows)| rows)
        }
    }

    /// The first column of the first row that a query answers, as text, if the answer comes within this time.
    ///
    /// # Errors
    /// What the server refused; silence.
    pub(in crate::postgres) fn value(&mut self, sql: &str, within: Duration) -> Result<String, Refused> {
        let deadline = Instant::now() + within;
        let sql = CString::new(sql).unwrap_or_default();
        // SAFETY: the connection is alive and the statement ends in zero. The value is copied before `judge` frees
        // the result. The last call takes the end of the answer, which has no result.
        unsafe {
            if PQsendQuery(self.0, sql.as_ptr()) == 0 {
                return Err(self.refused(false));
            }
            while PQisBusy(self.0) != 0 {
                if !wait(PQsocket(self.0), POLLIN, deadline) {
                    return Err(Refused::silence());
                }
                if PQconsumeInput(self.0) == 0 {
                    return Err(self.refused(false));
                }
            }
            let result = PQgetResult(self.0);
            let value = if PQntuples(result) > 0 { c_text(PQgetvalue(result, 0, 0)) } else { String::new() };
            let judged = self.judge(result);
            PQclear(PQgetResult(self.0));
            judged.map(|_| value)
        }
    }

    /// The process of the server.
    pub(in crate::postgres) fn pid(&self) -> i32 {
        // SAFETY: the connection is alive; of null libpq says 0.
        unsafe { PQbackendPID(self.0) }
    }

    /// Whether the connection has TLS.
    pub(in crate::postgres) fn uses_tls(&self) -> bool {
        // SAFETY: the connection is alive; of null libpq says no.
        unsafe { PQsslInUse(self.0) != 0 }
    }

    /// The IP address at the other end; empty for a socket of the file system.
    pub(in crate::postgres) fn peer(&self) -> String {
        // SAFETY: the connection is alive, or null, of which libpq says nothing. The text is copied.
        unsafe { c_text(PQhostaddr(self.0)) }
    }

    fn run(
        &mut self,
        sql: &str,
        parameters: &[(u32, Option<Vec<u8>>)],
    ) -> Result<(ExecStatusType, usize), Refused> {
        let sql = CString::new(sql).unwrap_or_default();
        let types: Vec<u32> = parameters.iter().map(|(oid, _)| *oid).collect();
        let bytes =
            |value: &Option<Vec<u8>>| value.as_ref().map_or(ptr::null(), |bytes| bytes.as_ptr().cast());
        let values: Vec<*const c_char> = parameters.iter().map(|(_, value)| bytes(value)).collect();
        let length = |value: &Option<Vec<u8>>| value.as_ref().map_or(0, |bytes| bytes.len() as c_int);
        let lengths: Vec<c_int> = parameters.iter().map(|(_, value)| length(value)).collect();
        let formats = vec![1; parameters.len()];
        // SAFETY: the connection is alive, the statement ends in zero, and the four lists have `count` elements
        // each and live through the call.
        unsafe {
            let count = parameters.len() as c_int;
            let (types, values) = (types.as_ptr(), values.as_ptr());
            let result = PQexecParams(
                self.0,
                sql.as_ptr(),
                count,
                types,
                values,
                lengths.as_ptr(),
                formats.as_ptr(),
                0,
            );
            self.judge(result)
        }
    }

    /// What a result says, and how many rows were taken. Frees it.
    ///
    /// # Safety
    /// `result` is null, or came from this connection and is not freed yet.
    unsafe fn judge(&self, result: *mut PGresult) -> Result<(ExecStatusType, usize), Refused> {
        // SAFETY: by the contract of this function; the fields are copied before the result is freed.
        let (status, rows, sqlstate, message) = unsafe {
            let field = |code: u8| c_text(PQresultErrorField(result, c_int::from(code)));
            let (status, rows) = (PQresultStatus(result), c_text(PQcmdTuples(result)));
            let (sqlstate, message) = (field(PG_DIAG_SQLSTATE), field(PG_DIAG_MESSAGE_PRIMARY));
            PQclear(result);
            (status, rows, sqlstate, message)
        };
        match status {
            ExecStatusType::PGRES_COMMAND_OK
            | ExecStatusType::PGRES_TUPLES_OK
            | ExecStatusType::PGRES_COPY_IN => Ok((status, rows.parse().unwrap_or(0))),
            _ if message.is_empty() => Err(self.refused(false)),
            _ => Err(Refused {
                sqlstate: SqlState::new(&sqlstate),
                lacks_password: false,
                in_tls: false,
                message,
            }),
        }
    }
}

/// The data of a COPY.
struct Stream(*mut PGconn);

impl Write for Stream {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let portion = &bytes[..bytes.len().min(c_int::MAX as usize)];
        // SAFETY: the connection outlives the stream, and the bytes are read during the call.
        let taken = unsafe { PQputCopyData(self.0, portion.as_ptr().cast(), portion.len() as c_int) };
        if taken == 1 { Ok(portion.len()) } else { Err(io::ErrorKind::BrokenPipe.into()) }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Waits until a socket can be read from or written to; `false` if that takes too long.
fn wait(socket: c_int, awaited: i16, deadline: Instant) -> bool {
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        let mut polled = pollfd { fd: socket, events: awaited, revents: 0 };
        let milliseconds = c_int::try_from(left.as_millis()).unwrap_or(c_int::MAX);
        // SAFETY: one element, which lives through the call.
        let ready = unsafe { libc::poll(&raw mut polled, 1, milliseconds) };
        let is_interrupted = ready < 0 && io::Error::last_os_error().kind() == io::ErrorKind::Interrupted;
        if !is_interrupted {
            return ready > 0;
        }
    }
}
