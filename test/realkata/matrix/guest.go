package matrix

import (
	"context"
	"fmt"
	"strings"

	"github.com/crio-erofs/crio-erofs/driver/volume"
	"github.com/crio-erofs/crio-erofs/test/crio"
)

// lookCommand prints what a container can see of its guest's kernel: the mount that is its root, and the names of the
// device mapper's devices, which Kata's agent makes of partition, hash offset and root hash
// (kata-containers 4.1.0, src/libs/kata-types/src/dmverity.rs).
const lookCommand = `while read -r line; do case $line in *" / / "*) echo "$line";; esac; done < /proc/self/mountinfo
for f in /sys/block/dm-*/dm/name; do [ -e "$f" ] && cat "$f"; done; exit 0`

// sight is what lookCommand saw.
type sight struct {
	root  string   // line of /proc/self/mountinfo
	names []string // of device mapper devices
}

func look(ctx context.Context, c *crio.Container) (sight, error) {
	r, err := c.Exec(ctx, "sh", "-c", lookCommand)
	if err != nil {
		return sight{}, err
	}
	return sightOf(r)
}

// sightOf returns what lookCommand left.
func sightOf(r crio.Result) (sight, error) {
	if r.ExitCode != 0 {
		return sight{}, fmt.Errorf("looking into the guest ended with %d: %s", r.ExitCode, r.Stderr)
	}
	lines := strings.Split(strings.TrimSpace(r.Stdout), "\n")
	return sight{root: lines[0], names: lines[1:]}, nil
}

// checkVolumes compares the guest's sight with the volumes that the host's manifest names: each has a dm-verity device
// with its hash offset and root hash, and the root is an overlay of as many lower directories.
func checkVolumes(s sight, volumes []volume.ManifestVolume) error {
	if err := checkDevices(s, volumes); err != nil {
		return err
	}
	return checkLowers(s, len(volumes))
}

// checkDevices wants a dm-verity device for each of the volumes.
func checkDevices(s sight, volumes []volume.ManifestVolume) error {
	for _, v := range volumes {
		if v.Verity == nil {
			return fmt.Errorf("%s has no dm-verity", v.Path)
		}
		end := fmt.Sprintf("-off%d-%s", v.Verity.HashOffset, v.Verity.RootHash[:32])
		if !hasSuffix(s.names, end) {
			return fmt.Errorf("the guest has no device kata-verity-...%s, but %q", end, s.names)
		}
	}
	return nil
}

// checkPlain wants an overlay of as many volumes, and no dm-verity device but those that were there before.
func checkPlain(s sight, volumes []volume.ManifestVolume, before []string) error {
	if len(s.names) != len(before) {
		return fmt.Errorf("the guest has device mapper's %q, where no verity is asked for", s.names)
	}
	return checkLowers(s, len(volumes))
}

// checkLowers wants a root that is an overlay of so many lower directories.
func checkLowers(s sight, want int) error {
	_, options, _ := strings.Cut(s.root, "lowerdir=")
	lower, _, _ := strings.Cut(options, ",")
	if n := len(strings.Split(lower, ":")); lower == "" || n != want {
		return fmt.Errorf("the container's root is %q, not an overlay of %d volumes", s.root, want)
	}
	return nil
}

func hasSuffix(names []string, end string) bool {
	for _, name := range names {
		if strings.HasPrefix(name, "kata-verity-") && strings.HasSuffix(name, end) {
			return true
		}
	}
	return false
}
