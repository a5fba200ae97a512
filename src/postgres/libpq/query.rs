//! Queries whose text is a user's: what columns they have, and the rows of a COPY as a stream.
//!
//! **Every statement here goes through the extended protocol, in which the server takes one statement and no
//! more.** A text with a second one is an error of syntax and is not executed.

use super::connection::Connection;
use crate::c_text::c_text;
use crate::postgres::sqlstate::SqlState;
use pq_sys::{
    ConnStatusType, ExecStatusType, PG_DIAG_MESSAGE_PRIMARY, PG_DIAG_SQLSTATE, PG_DIAG_STATEMENT_POSITION,
    PGresult, PQclear, PQconnectdb, PQdescribePrepared, PQexecParams, PQfmod, PQfname, PQfreemem, PQftype,
    PQgetCopyData, PQgetResult, PQgetisnull, PQgetvalue, PQnfields, PQnparams, PQntuples, PQprepare,
    PQresultErrorField, PQresultStatus, PQstatus,
};
use std::ffi::{CString, c_char, c_int};
use std::ptr;

/// Why a statement was not executed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::postgres) struct Complaint {
    /// The server's code; `None`: the connection broke.
    pub(in crate::postgres) sqlstate: Option<SqlState>,
    /// What the server or libpq says.
    pub(in crate::postgres) message: String,
    /// The character of the statement that the server points at, from 1.
    pub(in crate::postgres) position: Option<usize>,
}

/// What a statement would return.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::postgres) struct Description {
    /// How many parameters it has (`$1`).
    pub(in crate::postgres) parameters: usize,
    /// Name, oid of the type and modifier of the type of each column.
    pub(in crate::postgres) columns: Vec<(String, u32, i32)>,
}

/// A result of libpq, freed in the end. May be null.
struct Answer(*mut PGresult);

impl Drop for Answer {
    fn drop(&mut self) {
        // SAFETY: the pointer is null or a result that nobody else has, and is not used afterwards.
        unsafe { PQclear(self.0) }
    }
}

impl Answer {
    fn status(&self) -> ExecStatusType {
        // SAFETY: of null libpq says that it is an error.
        unsafe { PQresultStatus(self.0) }
    }

    fn field(&self, code: u8) -> String {
        // SAFETY: of null, and of a field that is not there, libpq gives null. The text is copied.
        unsafe { c_text(PQresultErrorField(self.0, c_int::from(code))) }
    }

    /// The text in a place; `None` for null, and where there is no such place.
    fn value(&self, row: c_int, column: c_int) -> Option<String> {
        // SAFETY: the place is one of the result's. The text is copied.
        unsafe {
            let is_there = row < PQntuples(self.0) && column < PQnfields(self.0);
            (is_there && PQgetisnull(self.0, row, column) == 0)
                .then(|| c_text(PQgetvalue(self.0, row, column)))
        }
    }

    /// The columns of what was described.
    fn description(&self) -> Description {
        // SAFETY: the result is that of a description, and the places are below their number. Names are
        // copied.
        unsafe {
            let column =
                |place| (c_text(PQfname(self.0, place)), PQftype(self.0, place), PQfmod(self.0, place));
            let parameters = usize::try_from(PQnparams(self.0)).unwrap_or_default();
            Description { parameters, columns: (0..PQnfields(self.0)).map(column).collect() }
        }
    }
}

impl Connection {
    /// Connects as any program of libpq does: to each host in turn, each within `connect_timeout`.
    ///
    /// # Errors
    /// libpq's sentence.
    pub(in crate::postgres) fn connect(string: &str) -> Result<Self, String> {
        let string = CString::new(string).map_err(|_| "the address contains a zero byte".to_owned())?;
        // SAFETY: the string ends in zero. The connection is freed when it is dropped; of null, the status is
        // bad.
        let (connection, status) = unsafe {
            let pointer = PQconnectdb(string.as_ptr());
            (Self::of(pointer), PQstatus(pointer))
        };
        if status == ConnStatusType::CONNECTION_OK { Ok(connection) } else { Err(connection.message()) }
    }

    /// What a statement would return. Executes nothing.
    ///
    /// # Errors
    /// What the server does not accept.
    pub(in crate::postgres) fn describe(&mut self, sql: &str) -> Result<Description, Complaint> {
        let (sql, name) = (text(sql)?, c"");
        let Some(pointer) = self.pointer() else { return Err(self.broken()) };
        // SAFETY: the connection is alive, both strings end in zero, and there are no parameters.
        let prepared = unsafe { PQprepare(pointer, name.as_ptr(), sql.as_ptr(), 0, ptr::null()) };
        self.accept(&Answer(prepared))?;
        // SAFETY: as above.
        let described = Answer(unsafe { PQdescribePrepared(pointer, name.as_ptr()) });
        self.accept(&described)?;
        Ok(described.description())
    }

    /// The rows of a query as texts. For few.
    ///
    /// # Errors
    /// What the server does not accept.
    pub(in crate::postgres) fn rows(
        &mut self,
        sql: &str,
        parameters: &[&str],
    ) -> Result<Vec<Vec<Option<String>>>, Complaint> {
        let parameters = parameters.iter().map(|value| text(value)).collect::<Result<Vec<_>, _>>()?;
        let answer = self.answer(sql, &parameters)?;
        // SAFETY: the result is alive.
        let (rows, columns) = unsafe { (PQntuples(answer.0), PQnfields(answer.0)) };
        let row = |row| (0..columns).map(|column| answer.value(row, column)).collect();
        Ok((0..rows).map(row).collect())
    }

    /// Executes `COPY … TO STDOUT`, and gives each portion of what comes to `take`: one row, as the protocol
    /// says.
    ///
    /// # Errors
    /// What the server does not accept, before or between the rows.
    pub(in crate::postgres) fn copy_out(
        &mut self,
        sql: &str,
        mut take: impl FnMut(&[u8]),
    ) -> Result<(), Complaint> {
        let begun = self.answer(sql, &[])?;
        let Some(pointer) = self.pointer() else { return Err(self.broken()) };
        if begun.status() != ExecStatusType::PGRES_COPY_OUT {
            return Err(self.broken());
        }
        loop {
            let mut portion: *mut c_char = ptr::null_mut();
            // SAFETY: the connection is alive and in the state COPY OUT. libpq allocates a portion of the
            // length that it returns; it is read before it is freed, once.
            let length = unsafe {
                let length = PQgetCopyData(pointer, &raw mut portion, 0);
                if let Ok(length @ 1..) = usize::try_from(length) {
                    take(std::slice::from_raw_parts(portion.cast::<u8>(), length));
                    PQfreemem(portion.cast());
                }
                length
            };
            match length {
                1.. => {}
                // The end, or an error, of which the result tells.
                -1 => break,
                _ => return Err(self.broken()),
            }
        }
        // SAFETY: the connection is alive.
        let ended = Answer(unsafe { PQgetResult(pointer) });
        self.accept(&ended)?;
        // The end of the answer has no result.
        // SAFETY: as above.
        drop(Answer(unsafe { PQgetResult(pointer) }));
        Ok(())
    }

    fn answer(&mut self, sql: &str, parameters: &[CString]) -> Result<Answer, Complaint> {
        let sql = text(sql)?;
        let values: Vec<*const c_char> = parameters.iter().map(|value| value.as_ptr()).collect();
        let Some(pointer) = self.pointer() else { return Err(self.broken()) };
        // SAFETY: the connection is alive; the statement and the texts end in zero and live through the call.
        // Types, lengths and formats are left to the server: they are texts.
        let answer = Answer(unsafe {
            PQexecParams(
                pointer,
                sql.as_ptr(),
                values.len() as c_int,
                ptr::null(),
                values.as_ptr(),
                ptr::null(),
                ptr::null(),
                0,
            )
        });
        self.accept(&answer).map(|()| answer)
    }

    fn accept(&self, answer: &Answer) -> Result<(), Complaint> {
        use ExecStatusType::{PGRES_COMMAND_OK, PGRES_COPY_OUT, PGRES_TUPLES_OK};
        if [PGRES_COMMAND_OK, PGRES_TUPLES_OK, PGRES_COPY_OUT].contains(&answer.status()) {
            return Ok(());
        }
        let sqlstate = SqlState::new(&answer.field(PG_DIAG_SQLSTATE));
        if sqlstate.is_none() {
            return Err(self.broken());
        }
        let position = answer.field(PG_DIAG_STATEMENT_POSITION).parse().ok();
        Err(Complaint { sqlstate, message: answer.field(PG_DIAG_MESSAGE_PRIMARY), position })
    }

    /// The connection broke, or a result has no code.
    fn broken(&self) -> Complaint {
        Complaint { sqlstate: None, message: self.message(), position: None }
    }
}

/// A text for libpq.
fn text(text: &str) -> Result<CString, Complaint> {
    CString::new(text).map_err(|_| Complaint {
        sqlstate: None,
        message: "the text contains a zero byte".to_owned(),
        position: None,
    })
}
