package agent

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// deviceTimeout bounds the waiting for a disk and its partitions. Kata waits 3 s and 1 s (multi_layer_erofs.rs,
// wait_for_partition_device); an emulated CPU needs more.
const deviceTimeout = 15 * time.Second

// scsiDisk scans for the disk at "<scsi id>:<lun>" and returns its device node
// (kata-containers src/agent/src/device/scsi_device_handler.rs, scan_scsi_bus and get_scsi_device_name).
func scsiDisk(address string) (string, error) {
	id, lun, ok := strings.Cut(address, ":")
	if !ok {
		return "", fmt.Errorf("SCSI address %q, want <scsi id>:<lun>", address)
	}
	hosts, err := filepath.Glob("/sys/class/scsi_host/*/scan")
	if err != nil {
		return "", err
	}
	for _, scan := range hosts {
		if err = os.WriteFile(scan, []byte("0 "+id+" "+lun), 0o200); err != nil {
			return "", fmt.Errorf("scan for SCSI disk %s: %w", address, err)
		}
	}
	pattern := fmt.Sprintf("/sys/bus/scsi/devices/*:0:%s:%s/block/*", id, lun)
	var node string
	err = poll(func() bool {
		found, _ := filepath.Glob(pattern)
		if len(found) == 1 {
			node = filepath.Join("/dev", filepath.Base(found[0]))
		}
		return node != ""
	})
	if err != nil {
		return "", fmt.Errorf("SCSI disk %s did not appear: %w", address, err)
	}
	if err := waitOpen(node); err != nil {
		return "", fmt.Errorf("SCSI disk %s did not appear: %w", address, err)
	}
	return node, nil
}

// waitOpen waits for a device node that can be opened: it is there a moment before (linux block/partitions/core.c,
// add_partition, and block/genhd.c, device_add_disk).
func waitOpen(node string) error {
	var last error
	err := poll(func() bool {
		var f *os.File
		if f, last = os.Open(node); last != nil {
			return false
		}
		f.Close()
		return true
	})
	if err != nil {
		return fmt.Errorf("%s: %w: %w", node, err, last)
	}
	return nil
}

// partition waits for the device node of a disk's partition.
func partition(disk, number string) (string, error) {
	// The kernel puts a p between a name that ends with a digit and the number (linux block/genhd.c, disk_name).
	node := disk + number
	if last := disk[len(disk)-1]; last >= '0' && last <= '9' {
		node = disk + "p" + number
	}
	if err := waitOpen(node); err != nil {
		return "", fmt.Errorf("partition device did not appear: %w", err)
	}
	return node, nil
}

var errTimeout = errors.New("timed out")

func poll(done func() bool) error {
	for deadline := time.Now().Add(deviceTimeout); ; time.Sleep(5 * time.Millisecond) {
		if done() {
			return nil
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("%w after %v", errTimeout, deviceTimeout)
		}
	}
}
