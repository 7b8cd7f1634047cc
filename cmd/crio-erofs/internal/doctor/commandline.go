package doctor

import (
	"fmt"
	"os"
	"strings"

	"github.com/crio-erofs/crio-erofs/cmd/crio-erofs/internal/crioconfig"
)

// flags are what CRI-O was told on its command line: where its configuration is, and what counts in place of that
// (contrib/kubernetes has CRI-O's unit name the driver so).
type flags struct {
	path, dir                         string
	root, runRoot, imageStore, driver string
	keys                              string
	options                           []string
}

// argumentsOf returns a process's arguments; none, if it is gone.
func argumentsOf(pid int) []string {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
	if err != nil {
		return nil
	}
	return strings.Split(strings.TrimSuffix(string(b), "\x00"), "\x00")
}

// commandLine reads CRI-O's arguments (cri-o 1.34, internal/criocli/criocli.go; a flag may have one dash or two).
func commandLine(args []string) (f flags) {
	for i, arg := range args {
		name, value, joined := strings.Cut(strings.TrimPrefix(strings.TrimPrefix(arg, "-"), "-"), "=")
		if !strings.HasPrefix(arg, "-") {
			continue
		}
		if !joined && i+1 < len(args) {
			value = args[i+1]
		}
		switch name {
		case "config", "c":
			f.path = value
		case "config-dir", "d":
			f.dir = value
		case "root", "r":
			f.root = value
		case "runroot":
			f.runRoot = value
		case "imagestore":
			f.imageStore = value
		case "storage-driver", "s":
			f.driver = value
		case "decryption-keys-path":
			f.keys = value
		case "storage-opt":
			for option := range strings.SplitSeq(value, ",") {
				f.options = append(f.options, strings.TrimSpace(option))
			}
		}
	}
	return f
}

// apply puts what the flags say in the place of what the files say.
func (f *flags) apply(c *crioconfig.Config) {
	for _, v := range []struct {
		to *string
		by string
	}{{&c.GraphRoot, f.root}, {&c.RunRoot, f.runRoot}, {&c.ImageStore, f.imageStore}, {&c.StorageDriver, f.driver},
		{&c.Runtime.DecryptionKeys, f.keys}} {
		if v.by != "" {
			*v.to = v.by
		}
	}
	if len(f.options) > 0 {
		c.StorageOptions = f.options
	}
}
