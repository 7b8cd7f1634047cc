package shim

import (
	"fmt"

	"github.com/crio-erofs/crio-erofs/kata"
	"github.com/crio-erofs/crio-erofs/kata/modes"
)

// minVersion is the first version of a runtime that has something.
type minVersion struct {
	major, minor int
	what         string
}

// When Kata's runtimes learned what (the commits are in kata-containers). runtime-rs 3.32 takes the same mounts as
// 4.0 and verifies nothing.
var (
	rsVerity  = minVersion{4, 0, "verifies volumes"}                           // c471644477
	rsVolumes = minVersion{3, 32, "takes volumes without a writable one"}      // 4fbfba2f79
	goVolumes = minVersion{3, 19, "finds the file behind a mount of a volume"} // 9079c8e598
)

// dialectOf returns the dialect of a real shim for a mode, or why it cannot be trusted with it. configured is the
// handler's setting: it stands in for the word of a program that is not Kata's, and never overrules Kata's own.
func dialectOf(configured modes.Dialect, id identity, mode kata.Mode) (kata.Dialect, error) {
	if mode == kata.ModeGuestPull || mode == kata.ModeSharedFS {
		return plainDialect(configured, id), nil
	}
	switch configured {
	case modes.DialectRawVolume, modes.DialectBlockDevice:
		return kata.Dialect(configured), nil // no release of Kata's takes these volumes: somebody vouches for a fork
	case modes.DialectGuestPull:
		return "", fmt.Errorf("dialect %s has no mode %s", configured, mode)
	case modes.DialectRuntimeRS, modes.DialectGo:
		if id.kind == "" {
			return kata.Dialect(configured), nil
		}
	}
	own, err := ownDialect(id, mode)
	if err == nil && configured != modes.DialectAuto && kata.Dialect(configured) != own {
		return "", fmt.Errorf("%s is Kata's shim of dialect %s, but the handler's configuration says %s: correct it, or set "+
			"dialect = \"auto\"", id.program, own, configured)
	}
	return own, err
}

// ownDialect goes by what a real shim says that it is.
func ownDialect(id identity, mode kata.Mode) (kata.Dialect, error) {
	d, need := kata.DialectRuntimeRS, rsVolumes
	switch {
	case id.kind == "":
		return "", id.unknown()
	case id.kind == kindGo && mode.Verity():
		return "", fmt.Errorf("%s is Kata's Go runtime, whose guests cannot verify volumes: use the shim of its "+
			"runtime-rs, 4.0.0 or later, or a mode without verity", id.program)
	case id.kind == kindGo:
		d, need = kata.DialectGo, goVolumes
	case mode.Verity():
		need = rsVerity
	}
	if !id.atLeast(need.major, need.minor) {
		return "", fmt.Errorf("%s is Kata %s, and %d.%d.0 is the first that %s", id.program, id.version, need.major,
			need.minor, need.what)
	}
	return d, nil
}

// plainDialect is for modes that bring no volumes, so that a wrong guess can at worst fail.
func plainDialect(configured modes.Dialect, id identity) kata.Dialect {
	switch {
	case configured == modes.DialectBlockDevice:
		return kata.DialectBlockDevice
	case id.kind == kindRust, id.kind == "" && configured == modes.DialectRuntimeRS:
		return kata.DialectRuntimeRS
	case id.kind == kindGo, configured == modes.DialectGo:
		return kata.DialectGo
	}
	return kata.DialectRawVolume // nothing is known, and nothing is assumed
}
