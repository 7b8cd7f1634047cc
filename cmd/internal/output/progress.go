package output

import (
	"fmt"
	"os"
	"sync"
	"time"

	"golang.org/x/term"
)

// Progress shows how far a long command is, on standard error if that is a terminal, from the first second on.
type Progress struct {
	mu    sync.Mutex
	verb  string
	total int64 // 0: not known
	done  int64
	start time.Time
	last  time.Time
	shown bool
	off   bool
}

// NewProgress starts to count; verb says what is done to total bytes (0: not known).
func NewProgress(verb string, total int64) *Progress {
	return &Progress{verb: verb, total: total, start: time.Now(), last: time.Now(),
		off: !term.IsTerminal(int(os.Stderr.Fd()))}
}

// SetTotal says how many bytes there are to do, once that is known.
func (p *Progress) SetTotal(n int64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.total = n
}

// Add counts n more bytes.
func (p *Progress) Add(n int64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.show(p.done + n)
}

// Set says that n bytes are done.
func (p *Progress) Set(n int64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.show(n)
}

func (p *Progress) show(done int64) {
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

// End clears the line.
func (p *Progress) End() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.shown {
		fmt.Fprint(os.Stderr, "\r\033[K")
	}
}
