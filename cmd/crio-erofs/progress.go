package main

import (
	"fmt"
	"os"
	"sync"
	"time"

	"golang.org/x/term"
)

// progress shows how far a long command is, on standard error if that is a terminal, from the first second on.
type progress struct {
	mu    sync.Mutex
	verb  string
	total int64 // 0: not known
	done  int64
	start time.Time
	last  time.Time
	shown bool
	off   bool
}

func newProgress(verb string, total int64) *progress {
	return &progress{verb: verb, total: total, start: time.Now(), last: time.Now(),
		off: !term.IsTerminal(int(os.Stderr.Fd()))}
}

// add counts n more bytes.
func (p *progress) add(n int64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.show(p.done + n)
}

// set says that n bytes are done.
func (p *progress) set(n int64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.show(n)
}

func (p *progress) show(done int64) {
	p.done = done
	now := time.Now()
	if p.off || now.Sub(p.last) < time.Second {
		return
	}
	p.last, p.shown = now, true
	rate := float64(done) / (1 << 20) / now.Sub(p.start).Seconds()
	of := ""
	if p.total > 0 {
		of = fmt.Sprintf(" of %d", p.total>>20)
	}
	fmt.Fprintf(os.Stderr, "\r\033[K%s %d%s MiB, %.0f MiB/s", p.verb, done>>20, of, rate)
}

// end clears the line.
func (p *progress) end() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.shown {
		fmt.Fprint(os.Stderr, "\r\033[K")
	}
}
