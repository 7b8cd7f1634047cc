package crio_test

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/crio-erofs/crio-erofs/test/crio"
	"github.com/crio-erofs/crio-erofs/test/env"
	"github.com/crio-erofs/crio-erofs/test/images"
)

// storageDriver makes a control experiment of the tests: go test ./test/crio -driver overlay.
var storageDriver = flag.String("driver", "", "storage driver instead of contrib's")

var registry *env.Registry

func TestMain(m *testing.M) {
	flag.Parse()
	code, err := runTests(m)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		code = 1
	}
	os.Exit(code)
}

// runTests runs the tests with one registry for all.
func runTests(m *testing.M) (int, error) {
	if os.Getuid() != 0 {
		return m.Run(), nil // each test says why it is skipped
	}
	dir, err := os.MkdirTemp("", "registry-")
	if err != nil {
		return 1, err
	}
	defer os.RemoveAll(dir)
	if registry, err = env.StartRegistry(context.Background(), dir); err != nil {
		return 1, err
	}
	defer registry.Stop()
	return m.Run(), nil
}

// timeout bounds a test: a hang is a failure that says where.
func timeout(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 4*time.Minute)
	t.Cleanup(cancel)
	return ctx
}

// pull has CRI-O pull an image from the registry, and returns its reference.
func pull(t *testing.T, server *crio.Server, image images.Image) string {
	t.Helper()
	ref := push(t, image)
	must[string](t)(server.PullImage(timeout(t), ref))
	return ref
}

// start starts a CRI-O of the test's own. At the test's end nothing of it may be left.
func start(t *testing.T, change ...func(*crio.Options)) *crio.Server {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("CRI-O needs root")
	}
	if _, err := env.Bin("crio"); errors.Is(err, os.ErrNotExist) && os.Getenv("CI") == "" {
		t.Skip(err)
	}
	dir, err := os.MkdirTemp("", "crio-")
	if err != nil {
		t.Fatal(err)
	}
	opts := crio.Options{
		Dir: dir, Registry: registry.Address, PauseImage: push(t, images.Pause), StorageDriver: *storageDriver,
	}
	for _, c := range change {
		c(&opts)
	}
	server, err := crio.Start(timeout(t), opts)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if t.Failed() {
			log, _ := os.ReadFile(server.LogFile()) // only helps to understand
			t.Logf("CRI-O's log:\n%s", tail(string(log), 60))
		}
		if err := server.Close(); err != nil {
			t.Error(err)
		}
	})
	return server
}

func tail(s string, n int) string {
	lines := strings.Split(strings.TrimSpace(s), "\n")
	return strings.Join(lines[max(0, len(lines)-n):], "\n")
}

func must[T any](t *testing.T) func(T, error) T {
	t.Helper()
	return func(v T, err error) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}
