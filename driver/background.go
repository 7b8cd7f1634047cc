package driver

import (
	"context"
	"sync"
)

// background does work for which nobody shall wait: containers/storage calls the driver with its locks held, so that all
// pulls and starts of other containers wait for what one of them does. The work is done one piece after the other. It ends
// with the process: what it leaves half-made then is in tmp/, like all that is.
type background struct {
	mu  sync.Mutex
	now *batch // nil: nothing was begun since the last stop
}

// batch is work that is stopped together.
type batch struct {
	ctx     context.Context
	cancel  context.CancelFunc
	names   map[string]bool // of what is being done or waits for its turn
	turn    sync.Mutex
	running sync.WaitGroup
}

// begin has work done, unless work of this name is being done or waiting.
func (b *background) begin(name string, work func(context.Context)) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.now == nil {
		b.now = &batch{names: map[string]bool{}}
		b.now.ctx, b.now.cancel = context.WithCancel(context.Background())
	}
	now := b.now
	if now.names[name] {
		return
	}
	now.names[name] = true
	now.running.Go(func() {
		now.turn.Lock()
		if now.ctx.Err() == nil {
			work(now.ctx)
		}
		now.turn.Unlock()
		b.mu.Lock()
		defer b.mu.Unlock()
		delete(now.names, name)
	})
}

// stop gives up what was begun, and what that begins, and waits until all has ended.
func (b *background) stop() {
	for {
		b.mu.Lock()
		now := b.now
		b.now = nil
		b.mu.Unlock()
		if now == nil {
			return
		}
		now.cancel()
		now.running.Wait()
	}
}
