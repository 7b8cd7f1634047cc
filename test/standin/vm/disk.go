package vm

import (
	"errors"
	"fmt"
	"sync"
	"time"
)

// scsiBus is the id of the controller that disks are plugged into.
const scsiBus = "scsi0"

// unplugTimeout bounds the waiting for a disk to leave.
const unplugTimeout = 5 * time.Second

// diskNumbers hands out the numbers of disks. A number is used again as late as possible: the guest may learn of a
// disk's removal after QEMU has forgotten it, and must not take the next one for it.
type diskNumbers struct {
	mu   sync.Mutex
	used map[int]bool
	next int
}

// maxDisks is what one SCSI target addresses with the numbers below: runtime-rs makes id and LUN of a disk's index as
// index/256 and index%256 (hypervisor/src/qemu/qmp.rs, get_scsi_id_lun); one target is plenty here.
const maxDisks = 256

func (d *diskNumbers) take() (int, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.used == nil {
		d.used = map[int]bool{}
	}
	for i := range maxDisks {
		if n := (d.next + i) % maxDisks; !d.used[n] {
			d.used[n] = true
			d.next = n + 1
			return n, nil
		}
	}
	return 0, fmt.Errorf("the VM has %d disks already", maxDisks)
}

func (d *diskNumbers) release(n int) {
	d.mu.Lock()
	defer d.mu.Unlock()
	delete(d.used, n)
}

// Disk is a disk that was plugged in.
type Disk struct {
	Address string // "<scsi id>:<lun>", what the agent is told
	vm      *VM
	number  int
}

// Format is how QEMU reads a disk's file.
type Format string

// Formats of a disk.
const (
	VMDK Format = "vmdk"
	Raw  Format = "raw"
)

// Plug adds a disk. A read-only one is shared by force, which leaves the host free to have the files mounted meanwhile,
// as in runtime-rs (hypervisor/src/qemu/qmp.rs, hotplug_block_device).
func (v *VM) Plug(path string, format Format, writable bool) (*Disk, error) {
	n, err := v.disks.take()
	if err != nil {
		return nil, err
	}
	d := &Disk{Address: fmt.Sprintf("0:%d", n), vm: v, number: n}
	err = v.monitor.run("blockdev-add", map[string]any{
		"node-name": d.node(), "driver": string(format), "read-only": !writable, "force-share": !writable,
		"file": map[string]any{"driver": "file", "filename": path, "read-only": !writable, "force-share": !writable},
	})
	if err != nil {
		v.disks.release(n)
		return nil, fmt.Errorf("open %s as a disk: %w", path, err)
	}
	err = v.monitor.run("device_add", map[string]any{
		"driver": "scsi-hd", "id": d.device(), "drive": d.node(), "bus": scsiBus + ".0", "scsi-id": 0, "lun": n,
		"share-rw": true,
	})
	if err != nil {
		return nil, errors.Join(fmt.Errorf("plug in %s: %w", path, err), d.close())
	}
	return d, nil
}

func (d *Disk) node() string   { return fmt.Sprintf("node%d", d.number) }
func (d *Disk) device() string { return fmt.Sprintf("disk%d", d.number) }

// Unplug removes the disk. The guest must have unmounted it.
func (d *Disk) Unplug() error {
	gone := d.vm.monitor.expectDeletion(d.device())
	if err := d.vm.monitor.run("device_del", map[string]any{"id": d.device()}); err != nil {
		return err
	}
	select {
	case <-gone:
	case <-time.After(unplugTimeout):
		return fmt.Errorf("disk %s did not leave within %v", d.Address, unplugTimeout)
	}
	return d.close()
}

func (d *Disk) close() error {
	if err := d.vm.monitor.run("blockdev-del", map[string]any{"node-name": d.node()}); err != nil {
		return err
	}
	d.vm.disks.release(d.number)
	return nil
}
