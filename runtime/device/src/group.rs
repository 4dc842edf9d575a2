//! Processes of one machine that compute together.
//!
//! They meet at a port of 127.0.0.1, over which nobody else can reach them, and then add numbers up among themselves. Each call
//! is made by every process, in the same order.

use std::net::{Ipv4Addr, TcpListener};
use std::os::fd::IntoRawFd as _;
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tch::Tensor;

use crate::sys::{Fault, Join, Joined};
use crate::{DeviceError, Place};

/// As torch has it: a peer that only saves a large checkpoint meanwhile is not lost.
const PATIENCE: Duration = Duration::from_mins(30);

/// Numbers that are added up at a time, as torch's own data parallelism does it: 25 MiB of 32 bits.
const BUCKET: usize = 25 << 18;

/// Where a group meets, and who this process is in it.
#[derive(Debug)]
pub struct Meeting {
    /// This process, counted from 0; the first one decides and writes.
    pub rank: usize,
    /// How many there are.
    pub count: usize,
    /// The port of 127.0.0.1.
    pub port: u16,
    /// The socket that listens there, in the process that serves the meeting.
    pub listener: Option<TcpListener>,
    /// A library that adds up on the devices themselves; without it they add up in the processor's memory.
    pub bridge: Option<PathBuf>,
}

impl Meeting {
    /// A meeting of `count` processes at a free port, served by this process as the first.
    pub fn open(count: usize) -> std::io::Result<Self> {
        Self::open_at(count, 0)
    }

    /// The same at a given port.
    pub fn open_at(count: usize, port: u16) -> std::io::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port))?;
        Ok(Self {
            rank: 0,
            count,
            port: listener.local_addr()?.port(),
            listener: Some(listener),
            bridge: None,
        })
    }
}

/// A joined group.
#[derive(Debug)]
pub struct Group {
    rank: usize,
    count: usize,
    /// Tensors are added up where they are, not in the processor's memory.
    on_devices: bool,
    joined: Mutex<Joined>,
}

impl Group {
    /// Joins the others; returns when all are there.
    pub fn join(meeting: Meeting) -> Result<Self, DeviceError> {
        let Meeting {
            rank,
            count,
            port,
            listener,
            bridge,
        } = meeting;
        let not_joined = |fault: Fault| DeviceError::NotJoined {
            rank,
            count,
            reason: fault.0,
        };
        let path = bridge.as_ref().map(|path| path.display().to_string());
        let joined = Joined::join(&Join {
            bridge: path.as_deref().unwrap_or_default(),
            port,
            serves: listener.is_some(),
            listener: listener.map(TcpListener::into_raw_fd),
            rank,
            count,
            patience_ms: PATIENCE.as_millis() as i64,
        })
        .map_err(not_joined)?;
        Ok(Self {
            rank,
            count,
            on_devices: bridge.is_some(),
            joined: Mutex::new(joined),
        })
    }

    /// This process, counted from 0.
    pub fn rank(&self) -> usize {
        self.rank
    }

    /// How many processes there are.
    pub fn count(&self) -> usize {
        self.count
    }

    fn lost(&self, fault: Fault) -> DeviceError {
        DeviceError::PeerLost {
            rank: self.rank,
            reason: fault.0,
        }
    }

    /// Lets `act` change the tensor where the group can reach it, and brings it back.
    fn within_reach(
        &self,
        tensor: &mut Tensor,
        act: impl FnOnce(&mut Joined, &Tensor) -> Result<(), Fault>,
    ) -> Result<(), DeviceError> {
        let near = if self.on_devices {
            tensor.shallow_clone()
        } else {
            Place::PROCESSOR.put(tensor)?
        };
        // A panic of another thread between two calls leaves the group as it was.
        let mut joined = self.joined.lock().unwrap_or_else(PoisonError::into_inner);
        act(&mut joined, &near).map_err(|fault| self.lost(fault))?;
        if !self.on_devices && !Place::of(tensor).is_processor() {
            tensor.f_copy_(&near).map_err(DeviceError::library)?;
        }
        Ok(())
    }

    /// Puts the sums over all processes in the place of the tensors' numbers, many tensors at a time.
    pub fn sum(&self, tensors: &mut [Tensor]) -> Result<(), DeviceError> {
        tch::no_grad(|| {
            for part in buckets(tensors) {
                self.sum_bucket(part)?;
            }
            Ok(())
        })
    }

    /// The tensors of a bucket have one number format.
    fn sum_bucket(&self, tensors: &mut [Tensor]) -> Result<(), DeviceError> {
        // One that is whole by itself is added up where it lies.
        if let [tensor] = tensors
            && tensor.is_contiguous()
        {
            return self.within_reach(tensor, Joined::sum);
        }
        let flat: Vec<Tensor> = tensors
            .iter()
            .map(|tensor| tensor.f_reshape([-1]))
            .collect::<Result<_, _>>()
            .map_err(DeviceError::library)?;
        let mut bucket = Tensor::f_cat(&flat, 0).map_err(DeviceError::library)?;
        self.within_reach(&mut bucket, Joined::sum)?;
        let mut start = 0;
        for tensor in tensors {
            let length = tensor.numel() as i64;
            let part = bucket
                .f_narrow(0, start, length)
                .and_then(|part| part.f_view_as(tensor))
                .map_err(DeviceError::library)?;
            tensor.f_copy_(&part).map_err(DeviceError::library)?;
            start += length;
        }
        Ok(())
    }

    /// Puts the first process's numbers in the place of the tensors' own.
    pub fn share(&self, tensors: &mut [Tensor]) -> Result<(), DeviceError> {
        tch::no_grad(|| {
            for tensor in tensors {
                // A view is not a tensor that the group may write to.
                let mut whole = tensor.f_contiguous().map_err(DeviceError::library)?;
                self.within_reach(&mut whole, Joined::share)?;
                tensor.f_copy_(&whole).map_err(DeviceError::library)?;
            }
            Ok(())
        })
    }

    /// Puts the sums over all processes in the place of the numbers.
    pub fn sum_numbers(&self, numbers: &mut [f64]) -> Result<(), DeviceError> {
        let tensor = Tensor::f_from_slice(numbers).map_err(DeviceError::library)?;
        let mut all = [tensor];
        self.sum(&mut all)?;
        let [tensor] = all;
        let count = numbers.len();
        tensor
            .f_copy_data(numbers, count)
            .map_err(DeviceError::library)
    }
}

/// Neighbours of one number format and place, as many as make a bucket.
fn buckets(mut rest: &mut [Tensor]) -> Vec<&mut [Tensor]> {
    let mut parts = Vec::new();
    while let Some(first) = rest.first() {
        let like = (first.kind(), Place::of(first));
        let mut numbers = 0;
        let end = rest.iter().position(|tensor| {
            let full = numbers > 0 && numbers + tensor.numel() > BUCKET;
            numbers += tensor.numel();
            full || (tensor.kind(), Place::of(tensor)) != like
        });
        let end = end.unwrap_or(rest.len());
        let (part, after) = rest.split_at_mut(end);
        parts.push(part);
        rest = after;
    }
    parts
}
