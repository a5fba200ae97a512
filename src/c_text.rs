//! Strings of C libraries: librdkafka's and libpq's.

#![expect(unsafe_code, reason = "a pointer of C is read")]

use std::ffi::{CStr, c_char};

/// A copy of a string of a C library; an empty one for null.
///
/// # Safety
/// `string` is null, or ends in zero and lives while this function runs.
pub(crate) unsafe fn c_text(string: *const c_char) -> String {
    if string.is_null() {
        return String::new();
    }
    // SAFETY: by the contract of this function.
    unsafe { CStr::from_ptr(string) }.to_string_lossy().into_owned()
}
