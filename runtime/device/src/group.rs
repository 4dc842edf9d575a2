//! Processes of one machine that compute together.
//!
//! They meet at a port of 127.0.0.1, over which nobody else can reach them, and then add numbers up among themselves. Each call
//! is made by every process, in the same order.

use std::net::{Ipv4Addr, TcpListener};
use std::os::fd::IntoRawFd as _;
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use tch::{Kind, Tensor};

use crate::bridge::note_made;
use crate::sys::{Fault, Join, Joined};
use crate::{Alarm, Bridge, DeviceError, Place};

/// As torch has it: a peer that only saves a large checkpoint meanwhile is not lost.
const PATIENCE: Duration = Duration::from_mins(30);

/// How long a device is asked again and again whether it is done, before it is asked less often.
const SOON: Duration = Duration::from_millis(1);

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
    /// What adds up on the devices themselves; without it they add up in the processor's memory.
    pub bridge: Option<Bridge>,
    /// Rung by who sees another process end.
    pub alarm: Alarm,
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
            alarm: Alarm::default(),
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
    alarm: Alarm,
    joined: Mutex<Joined>,
}

/// What came of trying a group out.
#[derive(Clone, Copy, Debug)]
pub struct Trial {
    /// Sums over all processes were right.
    pub sums: bool,
    /// Numbers of the first process reached all others.
    pub shares: bool,
    /// Bytes of a process that were added up in a second.
    pub rate: f64,
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
            alarm,
        } = meeting;
        let not_joined = |fault: Fault| DeviceError::NotJoined {
            rank,
            count,
            reason: fault.0,
        };
        let path = bridge.as_ref().map(|bridge| bridge.path.display());
        let path = path.map(|path| path.to_string());
        if bridge.is_some() {
            note_made();
        }
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
        let group = Self {
            rank,
            count,
            on_devices: bridge.is_some(),
            alarm,
            joined: Mutex::new(joined),
        };
        // A vendor's library connects the devices at the first call; what is wrong with them shows now.
        if let Some(bridge) = bridge {
            let ones = bridge.place.of_slice(&[1.0_f32])?;
            let sum = group.sum_of(ones).map_err(|error| match error {
                DeviceError::PeerLost { reason, .. } => not_joined(Fault(reason)),
                other => other,
            })?;
            if (sum - count as f64).abs() > 0.0 {
                let reason = format!("{count} ones on the devices add up to {sum}");
                return Err(not_joined(Fault(reason)));
            }
        }
        Ok(group)
    }

    fn sum_of(&self, tensor: Tensor) -> Result<f64, DeviceError> {
        let mut all = [tensor];
        self.sum(&mut all)?;
        let near = Place::PROCESSOR.put(&all[0])?;
        near.f_double_value(&[0]).map_err(DeviceError::library)
    }

    /// Adds up and shares as training does, with numbers on `place` whose sum is known.
    pub fn trial(&self, place: Place) -> Result<Trial, DeviceError> {
        // A bucket of training's size, and numbers whose sums are exact.
        let length = BUCKET as i64;
        let numbers = Tensor::f_arange(length, (Kind::Float, tch::Device::Cpu))
            .and_then(|numbers| numbers.f_remainder(100))
            .map_err(DeviceError::library)?;
        let times = |factor: usize| {
            let product = numbers.f_mul_scalar(factor as f64);
            product.map_err(DeviceError::library)
        };
        let comes = |tensor: &Tensor, factor: usize| {
            let near = Place::PROCESSOR.put(tensor)?;
            near.f_equal(&times(factor)?).map_err(DeviceError::library)
        };
        let mut shared = [place.put(&times(self.rank + 1)?)?];
        self.share(&mut shared)?;
        let handed = comes(&shared[0], 1)?;
        let mut summed = [place.put(&times(self.rank + 1)?)?];
        place.finish()?;
        let started = Instant::now();
        self.sum(&mut summed)?;
        place.finish()?;
        let rate = (BUCKET * size_of::<f32>()) as f64 / started.elapsed().as_secs_f64();
        let sums = comes(&summed[0], self.count * (self.count + 1) / 2)?;
        Ok(Trial {
            sums,
            shares: handed,
            rate,
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
        let waiting = (!Place::of(&near).is_processor()).then(|| self.alarm.wait());
        // Looked at once the alarm knows of the call: who rings it sees the call, or the call sees it rung.
        let begun = match &waiting {
            Some(_) if self.alarm.has_rung() => Err(gone()),
            _ => act(&mut joined, &near),
        };
        let acted = begun.and_then(|()| self.attend(&mut joined));
        drop(waiting);
        if let Err(fault) = acted {
            if self.on_devices {
                joined.give_up();
            }
            return Err(self.lost(fault));
        }
        if !self.on_devices && !Place::of(tensor).is_processor() {
            tensor.f_copy_(&near).map_err(DeviceError::library)?;
        }
        Ok(())
    }

    /// Returns when the device is done with what was begun, or when another process is known to be gone.
    fn attend(&self, joined: &mut Joined) -> Result<(), Fault> {
        let started = Instant::now();
        while !joined.is_done()? {
            let elapsed = started.elapsed();
            if self.alarm.has_rung() {
                return Err(gone());
            }
            if elapsed > PATIENCE {
                let minutes = PATIENCE.as_secs() / 60;
                return Err(Fault(format!("no answer in {minutes} minutes")));
            }
            if elapsed < SOON {
                thread::yield_now();
            } else {
                thread::sleep(SOON / 5);
            }
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

fn gone() -> Fault {
    Fault("it has ended".to_owned())
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
