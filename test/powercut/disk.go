package powercut

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
)

const sector = 512

// Disk is a disk as it was at some moment of a record, and can go on from there.
type Disk struct {
	Lost int // writes that Cut has left out, all in all

	log     *Log
	end     int64    // of what is of interest
	durable *os.File // has all writes that are known to be on the disk
	pending []*Entry // those since the last flush, in their order
	next    int
}

// NewDisk starts with the file before, which is changed from then on. What is at end or behind is of no interest.
func NewDisk(before string, log *Log, end int64) (*Disk, error) {
	f, err := os.OpenFile(before, os.O_RDWR, 0)
	if err != nil {
		return nil, err
	}
	return &Disk{log: log, end: end, durable: f}, nil
}

// Close closes the file.
func (d *Disk) Close() error { return d.durable.Close() }

// Cut makes a file of what a power cut may have left after so many entries, which must not be fewer than before, and
// says how many writes it has left out: each write since the last flush is there, is not, or is in part, by chance.
func (d *Disk) Cut(path string, entries int, rng *rand.Rand) (lost int, err error) {
	if err := d.advance(entries); err != nil {
		return 0, err
	}
	if out, err := exec.Command("cp", "--sparse=always", d.durable.Name(), path).CombinedOutput(); err != nil {
		return 0, fmt.Errorf("cp: %w: %s", err, out)
	}
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	for _, e := range d.pending {
		data, err := d.log.read(e)
		if err != nil {
			return lost, err
		}
		switch choice := rng.IntN(4); {
		case e.FUA: // is on the disk
		case choice == 0:
			lost++
			continue
		case choice == 1: // a disk writes whole sectors
			data = data[:rng.Int64N(e.Size/sector+1)*sector]
		}
		if _, err := f.WriteAt(data, e.Offset); err != nil {
			return lost, err
		}
	}
	d.Lost += lost
	return lost, nil
}

// advance goes on to a later entry.
func (d *Disk) advance(entries int) error {
	if entries < d.next || entries > len(d.log.Entries) {
		return fmt.Errorf("entry %d of %d, after %d", entries, len(d.log.Entries), d.next)
	}
	for ; d.next < entries; d.next++ {
		e := &d.log.Entries[d.next]
		if e.Flush {
			for _, p := range d.pending {
				if err := d.settle(p); err != nil {
					return err
				}
			}
			d.pending = nil
		}
		if e.Size > 0 && e.Offset < d.end {
			d.pending = append(d.pending, e)
		}
	}
	return nil
}

// settle puts a write on the disk for good.
func (d *Disk) settle(e *Entry) error {
	data, err := d.log.read(e)
	if err != nil {
		return err
	}
	_, err = d.durable.WriteAt(data, e.Offset)
	return err
}
