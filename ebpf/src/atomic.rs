//! Memory that programs on several CPUs change at once. `AtomicU64` has none of these operations on this target; the
//! instructions exist in every kernel that can run the programs.

use core::{arch::asm, ptr};

use lbstatd_ebpf_abi::{Buckets, HISTOGRAM_BUCKETS, bucket};

/// Adds to a counter.
///
/// # Safety
/// `counter` points into a map value.
#[inline(always)]
pub(crate) unsafe fn add(counter: *mut u64, n: u64) {
    // SAFETY: the caller's promise; map values are aligned to 8 and outlive the program's run.
    unsafe { asm!("lock *(u64 *)({counter} + 0) += {n}", counter = in(reg) counter, n = in(reg) n) };
}

/// Adds a value in microseconds to a histogram: to its sum, and to the bucket of its `scale`th part.
///
/// # Safety
/// As [`add`].
#[inline(always)]
pub(crate) unsafe fn observe(sum: *mut u64, buckets: *mut Buckets, value: u64, scale: u64) {
    let bucket = within::<{ HISTOGRAM_BUCKETS as i32 }>(bucket(value / scale));
    // SAFETY: the caller's promise; a bucket's number is below their count.
    unsafe {
        add(buckets.cast::<u64>().add(bucket), 1);
        add(sum, value);
    }
}

/// An index below `LENGTH`, in a form that the verifier understands: the compiler would drop a comparison that it knows
/// the result of, or compare a copy.
#[inline(always)]
pub(crate) fn within<const LENGTH: i32>(mut index: usize) -> usize {
    // SAFETY: a comparison and a jump over the assignment.
    unsafe {
        asm!("if {index} < {length} goto +1", "{index} = 0", index = inout(reg) index, length = const LENGTH);
    }
    index
}

/// Raises a counter to `value` unless it is there already.
///
/// # Safety
/// As [`add`].
#[inline(always)]
pub(crate) unsafe fn raise(counter: *mut u64, value: u64) {
    // Each failure means that another CPU has just raised it; to lose against four in a row takes four higher values.
    for _ in 0..4 {
        // SAFETY: the caller's promise.
        let seen = unsafe { ptr::read_volatile(counter) };
        // SAFETY: as above.
        if seen >= value || unsafe { exchange_if(counter, seen, value) } {
            return;
        }
    }
}

/// Takes a counter's value and leaves another one.
///
/// # Safety
/// As [`add`].
#[inline(always)]
pub(crate) unsafe fn exchange(counter: *mut u64, mut value: u64) -> u64 {
    // SAFETY: as in `add`.
    unsafe {
        asm!("{value} = xchg_64({counter} + 0, {value})", counter = in(reg) counter, value = inout(reg) value);
    }
    value
}

/// Sets a counter to `value` if it still is `expected`. True if it was.
///
/// # Safety
/// As [`add`].
#[inline(always)]
pub(crate) unsafe fn exchange_if(counter: *mut u64, expected: u64, value: u64) -> bool {
    let found: u64;
    // SAFETY: as in `add`.
    unsafe {
        asm!(
            "r0 = cmpxchg_64({counter} + 0, r0, {value})",
            counter = in(reg) counter,
            value = in(reg) value,
            inout("r0") expected => found,
        );
    }
    found == expected
}
