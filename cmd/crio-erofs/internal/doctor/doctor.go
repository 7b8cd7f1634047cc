// Package doctor looks at a node, or at a tree that is to become one, and says what keeps containers from getting their
// images as volumes, and what to change. Each check looks at one thing and has a file for its subject; what can be tried is
// tried, not guessed from versions. Nothing is changed.
package doctor

import (
	"context"
	"fmt"
	"strings"
)

// State says what a finding means.
type State string

// The states, from good to bad.
const (
	Good    State = "ok"
	Advice  State = "advice"  // it works, and could be better
	Unknown State = "unknown" // cannot be told from here
	Problem State = "problem" // containers are refused, or get less than they could be promised
)

// Finding is what a check found of one thing.
type Finding struct {
	Check   string `json:"check"`
	Subject string `json:"subject,omitempty"` // of several things that the check looks at, which: a handler, a file
	State   State  `json:"state"`
	Found   string `json:"found"`
	Mend    string `json:"mend,omitempty"` // what to change; empty if all is well
}

// Report is what was found.
type Report struct {
	// State is the worst of all findings, where advice counts as good.
	State    State     `json:"state"`
	Root     string    `json:"root,omitempty"` // of the tree; empty: this machine
	Findings []Finding `json:"findings"`
}

// check looks at one thing. live says that it needs the machine itself and not only its files.
type check struct {
	name string
	live bool
	run  func(context.Context, *Node) []Finding
}

// checks has all checks, from the ground up.
var checks = []check{
	{"kernel", true, checkKernel},
	{"crio-config", false, checkConfigFiles},
	{"crio-program", false, checkProgram},
	{"crio-storage", false, checkStorage},
	{"crio-running", true, checkRunning},
	{"config", false, checkModes},
	{"trust", false, checkTrust},
	{"nri", false, checkNRI},
	{"plugin", false, checkPlugin},
	{"guard", false, checkGuard},
	{"handler", false, checkHandlers},
	{"kata", true, checkKata},
	{"runtimeclass", false, hintRuntimeClasses},
}

// Examine runs all checks that are possible there.
func (n *Node) Examine(ctx context.Context) *Report {
	r := &Report{State: Good, Root: n.options.Root, Findings: []Finding{}}
	for _, c := range checks {
		if c.live && n.isTree() {
			continue
		}
		for _, f := range c.run(ctx, n) {
			f.Check, f.Found = c.name, strings.ReplaceAll(strings.TrimSpace(f.Found), "\n", "; ")
			r.Findings = append(r.Findings, f)
			if f.State == Problem || f.State == Unknown && r.State != Problem {
				r.State = f.State
			}
		}
	}
	return r
}

func good(subject, format string, args ...any) Finding {
	return Finding{Subject: subject, State: Good, Found: fmt.Sprintf(format, args...)}
}

// bad is a finding that is not good.
func bad(state State, subject, found, mend string) Finding {
	return Finding{Subject: subject, State: state, Found: found, Mend: mend}
}
