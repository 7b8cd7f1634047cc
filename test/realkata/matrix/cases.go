package matrix

import (
	"context"

	"github.com/crio-erofs/crio-erofs/kata"
	"github.com/crio-erofs/crio-erofs/test/crio"
	"github.com/crio-erofs/crio-erofs/test/realkata/install"
)

// What a case says of dm-verity.
const (
	enforced    = "enforced"
	notEnforced = "not enforced"
	none        = "-"
)

// Images that the cases run.
const (
	small  = "small"      // three layers
	single = "small-flat" // one layer
	deep   = "small-deep" // kata.MaxRootfsVolumes layers
	short  = "small-cut"  // without the topmost of the three layers
)

// run runs a case. It returns whether the guest enforces dm-verity, as it was seen to do.
type run = func(ctx context.Context, b *bench) (verity string, err error)

// testCase is one case.
type testCase struct {
	name   string
	verity string // what it has to be
	store  storeName
	run    run
}

func cases(r install.Runtime) []testCase {
	if r.Kind == install.Go {
		return goCases()
	}
	return []testCase{
		verified("layers", storeLayers, small, kata.ModeLayerVerity, (*subject).output, (*subject).changed),
		verified("one layer", storeLayers, single, kata.ModeImageVerity, (*subject).output, (*subject).changed),
		verified("image", storeImages, small, kata.ModeImageVerity, (*subject).output, (*subject).changed),
		verified("128 layers", storeLayers, deep, kata.ModeLayerVerity),
		plain("layers", storeLayers, kata.ModeLayer),
		plain("image", storeImages, kata.ModeImage),
		{"all modes side by side", enforced, storeImages, func(ctx context.Context, b *bench) (string, error) {
			return b.sideBySide(ctx, kata.ModeImageVerity, kata.ModeLayerVerity, kata.ModeImage, kata.ModeLayer)
		}},
		{"disk to write to", none, storeDisks, func(ctx context.Context, b *bench) (string, error) {
			return b.disk(ctx, kata.ModeLayer, kata.ModeImage, kata.ModeImageVerity)
		}},
		{"process", none, storeLayers, process},
		{"CRI-O restarted", enforced, storeLayers, restarted(kata.ModeLayerVerity)},
		{"guest pull", none, storeLayers, guestPull},
		{"policy", enforced, storeLayers, policyRefuses},
		{"policy, sandbox", none, storeLayers, policyRefusesSandbox},
	}
}

// goCases are those of Kata's Go runtime. It takes volumes only as they are mounted on the host, and that is the image's
// volume where there is one.
func goCases() []testCase {
	return []testCase{
		{"layers, verity: refused", none, storeLayers, refused},
		plain("layers", storeLayers, kata.ModeLayer),
		plain("image", storeImages, kata.ModeImage),
		{"all modes side by side", none, storeImages, func(ctx context.Context, b *bench) (string, error) {
			return b.sideBySide(ctx, kata.ModeImage)
		}},
		{"process", none, storeLayers, in(kata.ModeLayer, process)},
		{"CRI-O restarted", none, storeLayers, in(kata.ModeLayer, restarted(kata.ModeLayer))},
		{"guest pull", none, storeLayers, guestPull},
	}
}

// step is something that a case does with a pod in which a container has been started and looked at.
type step = func(s *subject, ctx context.Context) error

// verified is the case of a mode with verity.
func verified(what string, st storeName, image string, mode kata.Mode, steps ...step) testCase {
	return testCase{what + ", verity", enforced, st, func(ctx context.Context, b *bench) (string, error) {
		return b.container(ctx, image, mode, steps...)
	}}
}

// plain is the case of a mode without verity.
func plain(what string, st storeName, mode kata.Mode) testCase {
	return testCase{what + ", no verity", none, st, in(mode, func(ctx context.Context, b *bench) (string, error) {
		return b.container(ctx, small, mode, (*subject).output)
	})}
}

// in is run while the handler has one mode only.
func in(mode kata.Mode, do run) run {
	return func(ctx context.Context, b *bench) (string, error) {
		verity := none
		err := b.configured(handlerTable(crio.HandlerVM, mode), func() (err error) {
			verity, err = do(ctx, b)
			return err
		})
		return verity, err
	}
}
