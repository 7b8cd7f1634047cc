package doctor

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"

	"golang.org/x/sys/unix"

	"github.com/crio-erofs/crio-erofs/driver"
	"github.com/crio-erofs/crio-erofs/kata"
	"github.com/crio-erofs/crio-erofs/kata/modes"
)

// checkKernel tries what the driver needs, in the place of the store.
func checkKernel(_ context.Context, n *Node) []Finding {
	if os.Geteuid() != 0 {
		return []Finding{bad(Unknown, "", "only root can try mounts", "run crio-erofs doctor as root")}
	}
	dir := existing(n.crio.GraphRoot)
	c, err := driver.FindCapabilities(dir)
	if err != nil {
		return []Finding{bad(Unknown, dir, fmt.Sprintf("volumes could not be tried in %s: %v", dir, err),
			"make room there, or mount it writable")}
	}
	s, err := driver.CheckOptions(n.crio.StorageOptions)
	if err != nil {
		s, _ = driver.CheckOptions(nil) // crio-storage tells what is wrong with them
	}
	findings := []Finding{module("erofs", c.EROFS), module("overlay", c.Overlay)}
	if c.EROFS == nil { // else all of these say the same
		findings = append(findings, mounts(c, s), loopDevices(c, s), hostVerity(c, s), idMapping(c))
	}
	return append(findings, reflinks(n, c, s))
}

// existing returns the directory itself or the nearest one above it that is there: CRI-O may not have run yet.
func existing(dir string) string {
	for ; dir != "/" && dir != "."; dir = filepath.Dir(dir) {
		if fi, err := os.Stat(dir); err == nil && fi.IsDir() {
			return dir
		}
	}
	return "/"
}

func release() string {
	var u unix.Utsname
	if err := unix.Uname(&u); err != nil {
		return "this kernel"
	}
	return "Linux " + unix.ByteSliceToString(u.Release[:])
}

func module(fs string, err error) Finding {
	if err != nil {
		found := fmt.Sprintf("%s has no file system %s", release(), fs)
		if errors.As(err, new(unix.Errno)) { // the kernel may well have it, but does not let us ask
			found = err.Error()
		}
		return bad(Problem, fs, found, fmt.Sprintf("run \"modprobe %s\" and write the name into a file in "+
			"/etc/modules-load.d; if there is no such module, use a kernel that has it", fs))
	}
	return good(fs, "%s has %s", release(), fs)
}

// mounts says how volumes are mounted on the host.
func mounts(c *driver.Capabilities, s *driver.Settings) Finding {
	const subject = "mount"
	fileWanted := s.Mount == driver.MountFile || s.Mount == driver.MountAuto
	switch {
	case s.HostVerity:
		return good(subject, "volumes are mounted through dm-verity (erofs.host_verity=on)")
	case fileWanted && c.FileMount == nil:
		return good(subject, "volumes on %s are mounted straight from their files", c.BackingFS)
	case s.Mount == driver.MountFile:
		return bad(Problem, subject, fmt.Sprintf("erofs.mount=file, and %s cannot mount volumes on %s without loop devices: %v",
			release(), c.BackingFS, c.FileMount), "set erofs.mount=auto, or use Linux 6.12 or later")
	case c.LoopMount == nil:
		return good(subject, "volumes are mounted through loop devices (without, from Linux 6.12 on)")
	}
	return bad(Problem, subject, fmt.Sprintf("volumes cannot be mounted on this host, neither from files (%v) nor through loop "+
		"devices (%v)", c.FileMount, c.LoopMount), "run \"modprobe loop\", or use Linux 6.12 or later")
}

func loopDevices(c *driver.Capabilities, s *driver.Settings) Finding {
	const subject = "loop"
	const mend = "run \"modprobe loop\" and write the name into a file in /etc/modules-load.d"
	switch {
	case c.LoopMount == nil:
		return good(subject, "loop devices work")
	case s.Mount == driver.MountLoop || s.HostVerity || c.FileMount != nil:
		return bad(Problem, subject, "loop devices are needed and do not work: "+c.LoopMount.Error(), mend)
	}
	return good(subject, "loop devices do not work, and are not needed")
}

func hostVerity(c *driver.Capabilities, s *driver.Settings) Finding {
	const subject = "dm-verity"
	switch {
	case c.Verity == nil:
		return good(subject, "this host can mount volumes through dm-verity")
	case s.HostVerity:
		return bad(Problem, subject, "erofs.host_verity=on, and this host cannot: "+c.Verity.Error(),
			"run \"modprobe dm-mod\" and \"modprobe dm-verity\", or set erofs.host_verity=off: guests verify in any case")
	}
	return good(subject, "not on this host, and not needed: guests verify (erofs.host_verity=off)")
}

// reflinks says whether images become one volume each.
func reflinks(n *Node, c *driver.Capabilities, s *driver.Settings) Finding {
	const subject = "reflink"
	switch {
	case s.Image == driver.ImageOff && n.needsImageVolumes() == "":
		return good(subject, "not needed: erofs.image_volume=off")
	case s.Image == driver.ImageCopy, s.Image == driver.ImageBackground:
		return good(subject, "not needed: erofs.image_volume=%s", s.Image)
	case s.Image == driver.ImageReflink && c.Reflink == nil:
		return good(subject, "files on %s share blocks, so image volumes cost no space", c.BackingFS)
	}
	found := "erofs.image_volume=off, so images of several layers have no volume of their own"
	if s.Image == driver.ImageReflink {
		found = fmt.Sprintf("files on %s cannot share blocks, so images of several layers get no volume of their own (%v)",
			c.BackingFS, c.Reflink)
	}
	mend := "put graphroot on XFS or btrfs, or set erofs.image_volume=copy, which takes the space twice"
	if handler := n.needsImageVolumes(); handler != "" {
		return bad(Problem, subject, fmt.Sprintf("%s, and handler %s has no mode for such images", found, handler),
			mend+"; or add layer-verity to the handler's modes")
	}
	return bad(Advice, subject, found+": containers get one volume for each layer", mend)
}

// needsImageVolumes returns a handler that takes nothing but image volumes; "" if there is none.
func (n *Node) needsImageVolumes() string {
	for _, h := range n.ours() {
		if !slices.ContainsFunc(h.modes.Modes, func(m kata.Mode) bool {
			return !modes.HasVolumes(m) || m == kata.ModeLayer || m == kata.ModeLayerVerity
		}) {
			return h.name
		}
	}
	return ""
}

func idMapping(c *driver.Capabilities) Finding {
	const subject = "user-namespaces"
	if c.IDMapped != nil {
		return bad(Advice, subject, "pods with hostUsers: false get copies of their images: "+c.IDMapped.Error(),
			"use Linux 6.0 or later for such pods")
	}
	return good(subject, "pods with hostUsers: false share volumes with all others")
}
