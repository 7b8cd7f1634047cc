package doctor

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/crio-erofs/crio-erofs/kata"
	"github.com/crio-erofs/crio-erofs/kata/shim"
)

// checkKata asks Kata's shim behind each of ours what it is, and goes through the handler's modes with the answer and with
// Kata's configuration, by the very rules of the shim.
func checkKata(ctx context.Context, n *Node) (findings []Finding) {
	for _, h := range n.ours() {
		if n.isShim(h.crio.RuntimePath) {
			findings = append(findings, examineKata(ctx, &h)...)
		}
	}
	return findings
}

func examineKata(ctx context.Context, h *handler) []Finding {
	e, err := shim.Examine(ctx, h.crio.RuntimePath, &h.modes, h.crio.RuntimeConfigPath)
	if err != nil {
		return []Finding{bad(Problem, h.name, err.Error(), "install Kata's shim there, or name it")}
	}
	able := map[kata.Mode]bool{}
	why := map[string][]kata.Mode{} // what rules out which modes
	var order []string
	for _, m := range h.modes.Modes {
		_, err := e.Dialect(&h.modes, m)
		if able[m] = err == nil; err == nil {
			continue
		}
		reason := strings.TrimPrefix(err.Error(), fmt.Sprintf("mode %s: ", m))
		if why[reason] == nil {
			order = append(order, reason)
		}
		why[reason] = append(why[reason], m)
	}
	state := Advice
	if !slices.ContainsFunc(h.modes.Modes, func(m kata.Mode) bool { return able[m] }) {
		state = Problem
	}
	var findings []Finding
	for _, reason := range order {
		findings = append(findings, bad(state, h.name, fmt.Sprintf("%s: not possible with Kata as it is here: %s", list(why[reason]),
			reason), "change what the message names, or the handler's modes in /etc/crio-erofs/config.toml"))
	}
	if len(order) == 0 {
		findings = append(findings, good(h.name, "%s", describe(e, h)))
	}
	return findings
}

func describe(e *shim.Examination, h *handler) string {
	parts := []string{fmt.Sprintf("%s is Kata %s (%s)", e.Real, e.Version, e.Runtime)}
	if e.Runtime == "" {
		parts[0] = fmt.Sprintf("%s does not say that it is Kata's, and is taken for it (dialect %q)", e.Real, h.modes.Dialect)
	}
	if e.Target.Hypervisor != "" {
		parts = append(parts, "hypervisor "+e.Target.Hypervisor)
	}
	return strings.Join(append(parts, "modes "+list(h.modes.Modes)+" are possible"), ", ")
}
