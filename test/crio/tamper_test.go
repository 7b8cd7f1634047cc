package crio_test

import (
	"fmt"
	"testing"

	"github.com/crio-erofs/crio-erofs/kata"
	"github.com/crio-erofs/crio-erofs/test/crio"
	"github.com/crio-erofs/crio-erofs/test/env"
	"github.com/crio-erofs/crio-erofs/test/images"
)

const motd = "This file came out of an EROFS volume.\n"

// TestKataTamper changes volumes and manifests of running CRI-O's store, in each dialect with verity and for both kinds of
// volumes: no container ever reads what was changed.
func TestKataTamper(t *testing.T) {
	standIn := must[env.StandIn](t)(builtStandIn())
	editor := must[*crio.ManifestEditor](t)(crio.NewManifestEditor(t.TempDir(), standIn.Shim))
	server := startVM(t, withImageVolumes, func(o *crio.Options) {
		o.Env = append(o.Env, "CRIO_EROFS_REAL_SHIM="+editor.Program())
	})
	ref := pull(t, server, images.Small)
	for _, dialect := range []string{"auto", "raw-volume"} {
		set(t, server, dialect, kata.ModeLayerVerity)
		pod := must[*crio.Pod](t)(server.RunPod(timeout(t), crio.PodOptions{Handler: crio.HandlerVM}))
		for _, mode := range []kata.Mode{kata.ModeImageVerity, kata.ModeLayerVerity} {
			// makes the image's volume, and shows that what is refused below is right but for the change
			if _, err := motdIn(t, pod, ref, mode); err != nil {
				t.Fatalf("%s, %s: %v", dialect, mode, err)
			}
			for what := range crio.VolumeChanges {
				changed := must[[]crio.ChangedVolume](t)(server.ChangeVolumes(motd, what))
				if len(changed) != 2 { // a layer's and the image's
					t.Fatalf("%d volumes have the file", len(changed))
				}
				if said, err := motdIn(t, pod, ref, mode); err == nil {
					t.Errorf("%s, %s, %s changed: the container read %q", dialect, mode, what, said)
				} else {
					t.Logf("%s, %s, %s changed: %.300v", dialect, mode, what, err)
				}
				if err := crio.RestoreVolumes(changed); err != nil {
					t.Fatal(err)
				}
			}
			for what := range crio.ManifestChanges {
				if dialect != "auto" {
					continue // what the shim makes of a manifest does not depend on what it tells Kata
				}
				err := editor.Try(what, func() error {
					_, err := motdIn(t, pod, ref, mode)
					return err
				})
				if err != nil {
					t.Errorf("%s, manifest with %s: %v", mode, what, err)
				}
			}
		}
		if err := pod.Remove(timeout(t)); err != nil {
			t.Error(err)
		}
	}
}

// motdIn reads the image's file in a container. It is an error if that cannot be.
func motdIn(t *testing.T, pod *crio.Pod, ref string, mode kata.Mode) (string, error) {
	_, result, err := pod.Run(timeout(t), crio.ContainerOptions{Image: ref, Command: []string{"cat", "/etc/motd"},
		Annotations: map[string]string{kata.AnnotationRequest: string(mode)}})
	if err == nil && (result.ExitCode != 0 || result.Stdout != motd) {
		err = fmt.Errorf("%+v", result)
	}
	return result.Stdout, err
}
