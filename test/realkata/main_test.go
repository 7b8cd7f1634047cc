package main

import (
	"bytes"
	"strings"
	"testing"

	"github.com/crio-erofs/crio-erofs/test/realkata/matrix"
)

// TestNoKata: where no Kata is given, the command says that nothing was run and ends with success.
func TestNoKata(t *testing.T) {
	for _, args := range [][]string{nil, {"--kata", ""}} {
		var out bytes.Buffer
		cmd := newCommand()
		cmd.SetArgs(args)
		cmd.SetOut(&out)
		if err := cmd.Execute(); err != nil {
			t.Errorf("%q: %v", args, err)
		}
		if out.String() != noKata+"\n" {
			t.Errorf("%q: %q", args, out.String())
		}
	}
}

// TestNotAKata: a folder that is not an installation is an error, not a pass.
func TestNotAKata(t *testing.T) {
	cmd := newCommand()
	cmd.SetArgs([]string{"--kata", t.TempDir()})
	cmd.SetOut(&bytes.Buffer{})
	cmd.SetErr(&bytes.Buffer{})
	if err := cmd.Execute(); err == nil || !strings.Contains(err.Error(), "is not a Kata installation") {
		t.Errorf("an empty folder: %v", err)
	}
}

// TestVerdict: no case at all is a failure, and so is one that failed.
func TestVerdict(t *testing.T) {
	ok, failed := matrix.Result{Case: "a"}, matrix.Result{Case: "b", Error: "no"}
	skipped := matrix.Result{Case: "c", Skipped: "the guest has none"}
	for _, test := range []struct {
		results []matrix.Result
		fails   bool
	}{
		{nil, true}, {[]matrix.Result{ok}, false}, {[]matrix.Result{ok, failed}, true}, {[]matrix.Result{skipped}, false},
	} {
		if err := verdict(test.results); (err != nil) != test.fails {
			t.Errorf("%+v: %v", test.results, err)
		}
	}
}
