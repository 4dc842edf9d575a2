//! A device library that is loaded while the program runs, and tensors on its devices.

#![allow(
    clippy::unwrap_used,
    clippy::pedantic,
    reason = "a test says what it expects by unwrapping"
)]

use report::Diagnose as _;
use tch::{Device, Kind, Tensor};
use torch_device::{Library, Loaded, Place, Registers};

const NPU: Library<'_> = Library {
    file: "libtorch_npu.so",
    first: &[],
    registers: Registers::Private("npu"),
    script: "",
};

fn load() -> Loaded {
    NPU.load(&["/nowhere".into(), host_npu::folder()]).unwrap()
}

#[test]
fn a_library_brings_its_devices() {
    let loaded = load();
    assert_eq!(loaded.count(), 2);
    assert_eq!(loaded.path(), host_npu::library().unwrap());
    let place = loaded.choose(1).unwrap();
    assert_eq!(place.to_string(), "npu:1");
    let error = loaded.choose(2).unwrap_err();
    assert_eq!(error.code(), "device.no-such");
    assert!(error.to_string().contains("there are 2"), "{error}");
}

#[test]
fn tensors_go_there_and_come_back() {
    let place = load().choose(1).unwrap();
    let here = Tensor::from_slice(&[1.0_f32, -2.0, 3.5]);
    assert_eq!(Place::of(&here), Place::PROCESSOR);
    let there = place.put(&here).unwrap();
    assert_eq!(Place::of(&there), place);
    assert_eq!(Place::PROCESSOR.put(&there).unwrap(), here);
    let sum = (&there + &there).sum(Kind::Float);
    assert_eq!(Place::of(&sum), place);
    assert!((sum.double_value(&[]) - 5.0).abs() < 1e-9);
    for kind in [Kind::Float, Kind::BFloat16, Kind::Int64, Kind::Bool] {
        let zeros = place.zeros(&[2, 3], kind).unwrap();
        assert_eq!(
            (Place::of(&zeros), zeros.kind(), zeros.size()),
            (place, kind, vec![2, 3])
        );
        assert!(zeros.to_kind(Kind::Float).abs().max().double_value(&[]) == 0.0);
    }
    let memory = place.memory().unwrap();
    assert!(memory.peak > 0 && memory.free < memory.total);
    place.finish().unwrap();
}

#[test]
fn gradients_are_those_of_the_processor() {
    let place = load().choose(0).unwrap();
    tch::manual_seed(1);
    let draw = |size: &[i64]| Tensor::randn(size, (Kind::Float, Device::Cpu));
    let (x, weight) = (draw(&[5, 8]), draw(&[8, 8]));
    let gradient = |place: Place| {
        let weight = place.put(&weight).unwrap().detach().set_requires_grad(true);
        let y = place.put(&x).unwrap().matmul(&weight).gelu("none");
        y.square().mean(Kind::Float).backward();
        assert_eq!(Place::of(&weight.grad()), place);
        Place::PROCESSOR.put(&weight.grad()).unwrap()
    };
    let gap = gradient(place) - gradient(Place::PROCESSOR);
    assert!(gap.abs().max().double_value(&[]) < 1e-6);
}

#[test]
fn the_same_seed_draws_the_same_numbers() {
    let place = load().choose(0).unwrap();
    let draw = |place: Place| {
        tch::manual_seed(7);
        let mut drawn = place.empty(&[4, 3], Kind::Float).unwrap();
        let drawn = drawn.uniform_(0.0, 1.0);
        Place::PROCESSOR.put(&drawn).unwrap()
    };
    assert_eq!(draw(place), draw(Place::PROCESSOR));
}

#[test]
fn a_library_of_other_devices_is_not_taken() {
    let other = Library {
        registers: Registers::Private("mlu"),
        ..NPU
    };
    let error = other.load(&[host_npu::folder()]).unwrap_err();
    assert_eq!(error.code(), "device.library-of-other");
    assert!(
        error.to_string().contains("registers npu, expected mlu"),
        "{error}"
    );
}
