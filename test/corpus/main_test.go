package corpus_test

import (
	"fmt"
	"os"
	"strings"
	"testing"
	"time"
)

// started is when the tests started, in seconds: nothing in a corpus is younger, except what an extraction makes up.
var started = time.Now().Unix()

// TestMain fails if a test leaves something mounted.
func TestMain(m *testing.M) {
	code := m.Run()
	mounts, err := os.ReadFile("/proc/self/mounts")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	for line := range strings.Lines(string(mounts)) {
		if fields := strings.Fields(line); len(fields) > 1 && strings.HasPrefix(fields[1], os.TempDir()+"/TestCorpus") {
			fmt.Fprintln(os.Stderr, "left mounted:", fields[1])
			code = 1
		}
	}
	os.Exit(code)
}
