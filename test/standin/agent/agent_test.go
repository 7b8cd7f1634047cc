package agent

import (
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/crio-erofs/crio-erofs/test/standin/agentapi"
)

// TestVerityOptions has the cases of kata-containers' multi_layer_erofs.rs,
// test_parse_dmverity_options_required_fields_and_blocknum, and the tables that dmverity.rs makes.
func TestVerityOptions(t *testing.T) {
	hash := strings.Repeat("0123456789abcdef", 4)
	root := "X-kata.dmverity.roothash=" + hash
	for name, test := range map[string]struct {
		options []string
		want    string // the table, or a part of the error
	}{
		"no hash":      {[]string{"X-kata.dmverity.hashoffset=8192"}, "roothash is required"},
		"no offset":    {[]string{root}, "hashoffset is required"},
		"zero offset":  {[]string{root, "X-kata.dmverity.hashoffset=0"}, "hashoffset is required"},
		"unaligned":    {[]string{root, "X-kata.dmverity.hashoffset=8193"}, "not aligned to blocksize 4096"},
		"not a number": {[]string{root, "X-kata.dmverity.hashoffset=-1"}, "option X-kata.dmverity.hashoffset=-1"},
		"no hex":       {[]string{"X-kata.dmverity.roothash=xyz", "X-kata.dmverity.hashoffset=8192"}, "roothash \"xyz\""},
		"superblock": {[]string{root, "X-kata.dmverity.hashoffset=8192", "X-kata.dmverity.no-superblock=false",
			"X-kata.dmverity.salt="}, "1 /dev/sda1 /dev/sda1 4096 4096 2 3 sha256 " + hash + " -"},
		"no superblock": {[]string{root, "X-kata.dmverity.hashoffset=8192", "X-kata.dmverity.no-superblock=true",
			"X-kata.dmverity.salt=-"}, "1 /dev/sda1 /dev/sda1 4096 4096 2 2 sha256 " + hash + " -"},
		"all": {[]string{root, "X-kata.dmverity.hashoffset=8192", "X-kata.dmverity.salt=00ff",
			"X-kata.dmverity.blocksize=512", "X-kata.dmverity.hashsize=512", "X-kata.dmverity.algorithm=sha512",
			"X-kata.dmverity.hashtype=0"}, "0 /dev/sda1 /dev/sda1 512 512 16 17 sha512 " + hash + " 00ff"},
	} {
		var got string
		v, err := parseVerityOptions(test.options)
		if err == nil {
			target, terr := v.target("/dev/sda1")
			got, err = target.Params, terr
			if err == nil && target.Length != 16 {
				t.Errorf("%s: %d sectors, want the 16 of the data", name, target.Length)
			}
		}
		if err != nil {
			got = err.Error()
		}
		if !strings.Contains(got, test.want) {
			t.Errorf("%s: %q, want %q", name, got, test.want)
		}
	}
	v := &verityOptions{rootHash: hash, hashOffset: 8192}
	if got, want := v.deviceName("/dev/sda1"), "kata-verity-sda1-off8192-0123456789abcdef0123456789abcdef"; got != want {
		t.Errorf("device name %q, want %q", got, want)
	}
}

func TestLowerStorages(t *testing.T) {
	multi := func(fstype string, options ...string) agentapi.Storage {
		return agentapi.Storage{FSType: fstype, Options: append(options, agentapi.OptMultiLayer)}
	}
	_, lowers, err := groupStorages([]agentapi.Storage{
		multi("erofs", "X-kata.partition-number=10"), multi("erofs", "X-kata.partition-number=2"),
		multi("erofs", "X-kata.partition-number=1"),
	})
	if err != nil {
		t.Fatal(err)
	}
	var order []int
	for _, s := range lowers {
		order = append(order, partitionNumber(s))
	}
	if !slices.Equal(order, []int{1, 2, 10}) {
		t.Errorf("partitions in the order %v", order)
	}
	for want, storages := range map[string][]agentapi.Storage{
		"missing erofs lower layer": nil,
		"not part of a multi-layer": {{FSType: "erofs"}},
		"must be ext4":              {multi("erofs", agentapi.OptOverlayUpper)},
		"exactly one":               {multi("ext4", agentapi.OptOverlayUpper), multi("ext4", agentapi.OptOverlayUpper)},
		"want erofs":                {multi("squashfs")},
	} {
		if _, _, err := groupStorages(storages); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("error %v, want %q in it", err, want)
		}
	}
	for _, cid := range []string{"", "../escape", "foo/bar", "foo\\bar", "foo\x00bar", "a..b"} {
		if _, err := mountStorages(cid, nil, nil); err == nil || !strings.Contains(err.Error(), "container ID") {
			t.Errorf("container id %q: %v", cid, err)
		}
	}
}

func TestParseOptions(t *testing.T) {
	options := []string{"ro", "nosuid", "rw", "rbind", "rslave", "size=1k", "X-mount.mkdir", "mode=755"}
	flags, prop, data := parseOptions(options)
	if flags != unix.MS_NOSUID|unix.MS_BIND|unix.MS_REC || prop != unix.MS_SLAVE|unix.MS_REC ||
		data != "size=1k,mode=755" {
		t.Errorf("flags %#x, propagation %#x, data %q", flags, prop, data)
	}
}

func TestLogLine(t *testing.T) {
	got := logLine("3,339,5140900,-;device-mapper: verity: 8:1: data block 3 is corrupted\n SUBSYSTEM=block\n")
	if want := "[    5.140900] device-mapper: verity: 8:1: data block 3 is corrupted"; got != want {
		t.Errorf("%q, want %q", got, want)
	}
}
