//! The C++ side, and the only `unsafe` code of the runtime: each function here is safe to call with any arguments.
//!
//! No exception leaves the C++ side, and a tensor that it returns belongs to the caller.

#![expect(unsafe_code, reason = "the one door to C++")]

use std::ffi::{CStr, CString, c_char, c_int};
use std::ptr::NonNull;

use tch::Tensor;
use torch_sys::C_tensor;

/// What the C++ side knows of a group of processes.
#[repr(C)]
struct RawGroup {
    _opaque: [u8; 0],
}

unsafe extern "C" {
    fn ferry_fault() -> *const c_char;
    fn ferry_torch_version() -> *const c_char;
    fn ferry_open(path: *const c_char) -> c_int;
    fn ferry_interpret(script: *const c_char) -> c_int;
    fn ferry_is_registered(kind: c_int) -> c_int;
    fn ferry_private_name() -> *const c_char;
    fn ferry_device_count(kind: c_int) -> c_int;
    fn ferry_set_device(kind: c_int, index: c_int) -> c_int;
    fn ferry_synchronize(kind: c_int, index: c_int) -> c_int;
    fn ferry_memory(kind: c_int, index: c_int, numbers: *mut i64) -> c_int;
    fn ferry_place_of(tensor: *const C_tensor, index: *mut c_int) -> c_int;
    fn ferry_put(tensor: *const C_tensor, kind: c_int, index: c_int) -> *mut C_tensor;
    fn ferry_empty(
        sizes: *const i64,
        count: c_int,
        like: *const C_tensor,
        kind: c_int,
        index: c_int,
    ) -> *mut C_tensor;
    fn ferry_bridge_made_for(bridge: *const c_char) -> *const c_char;
    fn ferry_group_join(
        bridge: *const c_char,
        port: u16,
        listener: c_int,
        serves: c_int,
        rank: c_int,
        count: c_int,
        patience_ms: i64,
    ) -> *mut RawGroup;
    fn ferry_group_leave(group: *mut RawGroup);
    fn ferry_group_sum(group: *mut RawGroup, tensor: *const C_tensor) -> c_int;
    fn ferry_group_share(group: *mut RawGroup, tensor: *const C_tensor) -> c_int;
    fn ferry_group_is_done(group: *mut RawGroup) -> c_int;
    fn ferry_end(status: c_int) -> !;
}

/// What the C++ side said of its last failure on this thread: the first line, without the call stack behind it.
pub(crate) struct Fault(pub(crate) String);

impl Fault {
    fn last() -> Self {
        // SAFETY: the text belongs to this thread and is copied before anything else is called.
        let text = unsafe { CStr::from_ptr(ferry_fault()) }.to_string_lossy();
        Self(text.lines().next().unwrap_or_default().to_owned())
    }
}

fn done(status: c_int) -> Result<c_int, Fault> {
    if status < 0 {
        Err(Fault::last())
    } else {
        Ok(status)
    }
}

fn text(words: &str) -> Result<CString, Fault> {
    CString::new(words).map_err(|_| Fault("a text with a zero byte".to_owned()))
}

fn owned(tensor: *mut C_tensor) -> Result<Tensor, Fault> {
    if tensor.is_null() {
        return Err(Fault::last());
    }
    // SAFETY: the C++ side gives a tensor of its own away.
    Ok(unsafe { Tensor::from_ptr(tensor) })
}

/// The release of libtorch that this program was compiled for.
pub(crate) fn torch_version() -> String {
    // SAFETY: a constant text.
    let version = unsafe { CStr::from_ptr(ferry_torch_version()) };
    version.to_string_lossy().into_owned()
}

/// Loads a shared library and all that it refers to, for good.
pub(crate) fn open(path: &str) -> Result<(), Fault> {
    let path = text(path)?;
    // SAFETY: the text lives through the call. What a library does as it is loaded is the library's.
    done(unsafe { ferry_open(path.as_ptr()) }).map(drop)
}

/// Starts a loaded Python library and lets it run `script`.
pub(crate) fn interpret(script: &str) -> Result<(), Fault> {
    let script = text(script)?;
    // SAFETY: the text lives through the call.
    done(unsafe { ferry_interpret(script.as_ptr()) }).map(drop)
}

pub(crate) fn is_registered(kind: i32) -> bool {
    // SAFETY: any number is an answerable question.
    unsafe { ferry_is_registered(kind) == 1 }
}

/// The name under which a library registered libtorch's one type of device that is left to others.
pub(crate) fn private_name() -> String {
    // SAFETY: the text belongs to this thread and is copied at once.
    let name = unsafe { CStr::from_ptr(ferry_private_name()) };
    name.to_string_lossy().into_owned()
}

pub(crate) fn device_count(kind: i32) -> Result<usize, Fault> {
    // SAFETY: only numbers are passed.
    let count = done(unsafe { ferry_device_count(kind) })?;
    Ok(usize::try_from(count).unwrap_or_default())
}

pub(crate) fn set_device(kind: i32, index: i32) -> Result<(), Fault> {
    // SAFETY: only numbers are passed.
    done(unsafe { ferry_set_device(kind, index) }).map(drop)
}

pub(crate) fn synchronize(kind: i32, index: i32) -> Result<(), Fault> {
    // SAFETY: only numbers are passed.
    done(unsafe { ferry_synchronize(kind, index) }).map(drop)
}

/// Free and total bytes, and the most that tensors held; none where the device's library does not tell.
pub(crate) fn memory(kind: i32, index: i32) -> Option<[i64; 3]> {
    let mut numbers = [0; 3];
    // SAFETY: there is room for the three numbers.
    let status = unsafe { ferry_memory(kind, index, numbers.as_mut_ptr()) };
    (status == 0).then_some(numbers)
}

/// Type and index of the device that a tensor is on.
pub(crate) fn place_of(tensor: &Tensor) -> (i32, i32) {
    let mut index = 0;
    // SAFETY: the tensor lives through the call, and every tensor has a device.
    let kind = unsafe { ferry_place_of(tensor.as_ptr(), &raw mut index) };
    (kind, index)
}

pub(crate) fn put(tensor: &Tensor, kind: i32, index: i32) -> Result<Tensor, Fault> {
    // SAFETY: the tensor lives through the call.
    owned(unsafe { ferry_put(tensor.as_ptr(), kind, index) })
}

pub(crate) fn empty(sizes: &[i64], like: &Tensor, kind: i32, index: i32) -> Result<Tensor, Fault> {
    let count = c_int::try_from(sizes.len()).map_err(|_| Fault("too many sides".to_owned()))?;
    // SAFETY: as many sizes are there as `count` says, and `like` lives through the call.
    owned(unsafe { ferry_empty(sizes.as_ptr(), count, like.as_ptr(), kind, index) })
}

/// Loads a bridge to a vendor's collectives, and returns what it was made for.
pub(crate) fn bridge_made_for(path: &str) -> Result<String, Fault> {
    let path = text(path)?;
    // SAFETY: the text lives through the call. What a library does as it is loaded is the library's.
    let made_for = unsafe { ferry_bridge_made_for(path.as_ptr()) };
    if made_for.is_null() {
        return Err(Fault::last());
    }
    // SAFETY: a constant text of a library that stays loaded.
    let made_for = unsafe { CStr::from_ptr(made_for) };
    Ok(made_for.to_string_lossy().into_owned())
}

/// Ends the program at once.
pub(crate) fn end(status: u8) -> ! {
    // SAFETY: only a number is passed. Threads that still run end with the program.
    unsafe { ferry_end(c_int::from(status)) }
}

/// How a process joins its group.
pub(crate) struct Join<'a> {
    /// Path of the library that makes the group; empty: gloo.
    pub(crate) bridge: &'a str,
    /// Port of this machine where the group meets.
    pub(crate) port: u16,
    /// A socket that listens there already; it is given away.
    pub(crate) listener: Option<i32>,
    /// Whether this process serves the meeting place.
    pub(crate) serves: bool,
    pub(crate) rank: usize,
    pub(crate) count: usize,
    pub(crate) patience_ms: i64,
}

/// A joined group.
#[derive(Debug)]
pub(crate) struct Joined {
    group: NonNull<RawGroup>,
    /// A device may be at work for it that is never done.
    given_up: bool,
}

// SAFETY: c10d's backends may be used from any thread, one call at a time, and `&mut self` below sees to the latter.
unsafe impl Send for Joined {}

impl Joined {
    pub(crate) fn join(join: &Join<'_>) -> Result<Self, Fault> {
        let number = |n: usize| c_int::try_from(n).map_err(|_| Fault("too many".to_owned()));
        let (rank, count) = (number(join.rank)?, number(join.count)?);
        let bridge = text(join.bridge)?;
        // SAFETY: the text lives through the call, the rest are numbers.
        let group = unsafe {
            ferry_group_join(
                bridge.as_ptr(),
                join.port,
                join.listener.unwrap_or(-1),
                c_int::from(join.serves),
                rank,
                count,
                join.patience_ms,
            )
        };
        let group = NonNull::new(group).ok_or_else(Fault::last)?;
        Ok(Self {
            group,
            given_up: false,
        })
    }

    pub(crate) fn sum(&mut self, tensor: &Tensor) -> Result<(), Fault> {
        // SAFETY: group and tensor live through the call; what it begins holds the tensor itself.
        done(unsafe { ferry_group_sum(self.group.as_ptr(), tensor.as_ptr()) }).map(drop)
    }

    pub(crate) fn share(&mut self, tensor: &Tensor) -> Result<(), Fault> {
        // SAFETY: as above.
        done(unsafe { ferry_group_share(self.group.as_ptr(), tensor.as_ptr()) }).map(drop)
    }

    /// Whether all that was begun is done.
    pub(crate) fn is_done(&mut self) -> Result<bool, Fault> {
        // SAFETY: the group lives through the call.
        done(unsafe { ferry_group_is_done(self.group.as_ptr()) }).map(|is| is == 1)
    }

    /// Leaves it as it is for good: taking it down would wait for a device that may never be done.
    pub(crate) fn give_up(&mut self) {
        self.given_up = true;
    }
}

impl Drop for Joined {
    fn drop(&mut self) {
        if !self.given_up {
            // SAFETY: the group is this value's alone, and is gone after this.
            unsafe { ferry_group_leave(self.group.as_ptr()) }
        }
    }
}
