package main

import (
	"context"
	"fmt"
	"testing"
)

func TestMessage(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	err := fmt.Errorf("copy x: %w", context.Canceled)
	if got := message(ctx, err); got != "copy x: context canceled" {
		t.Errorf("not interrupted: %s", got)
	}
	cancel()
	if got := message(ctx, err); got != "copy x: interrupted" {
		t.Errorf("interrupted: %s", got)
	}
}
