package driver

import (
	"fmt"
	"maps"
	"sync"
	"time"
)

// retryImage is how long an image volume that could not be made is not tried again. On a full disk with
// erofs.image_volume=copy each try writes what there is room for, and all containers wait for it: containers/storage
// holds its locks while a layer is being mounted. It is a variable for tests.
var retryImage = 30 * time.Second

// failures remembers why image volumes could not be made, by their keys.
type failures struct {
	mu     sync.Mutex
	images map[string]failure
}

type failure struct {
	at  time.Time
	err error
}

// recent returns why an image volume could not be made a short while ago; nil if it may be tried.
func (f *failures) recent(key string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	last, ok := f.images[key]
	if ago := time.Since(last.at); ok && ago < retryImage {
		return fmt.Errorf("%w (%s ago; the next try is for a container that starts %s after that)", last.err,
			ago.Round(time.Second), retryImage)
	}
	return nil
}

// note remembers why an image volume could not be made, or forgets it.
func (f *failures) note(key string, err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	maps.DeleteFunc(f.images, func(_ string, old failure) bool { return time.Since(old.at) >= retryImage })
	if err == nil {
		delete(f.images, key)
		return
	}
	if f.images == nil {
		f.images = map[string]failure{}
	}
	f.images[key] = failure{time.Now(), err}
}
