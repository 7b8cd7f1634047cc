package images

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/spf13/cobra"

	"github.com/crio-erofs/crio-erofs/cmd/crio-erofs/internal/cli"
	"github.com/crio-erofs/crio-erofs/cmd/internal/output"
	"github.com/crio-erofs/crio-erofs/driver/measure"
	"github.com/crio-erofs/crio-erofs/kata/trust"
	"github.com/crio-erofs/crio-erofs/kata/trust/referrer"
)

type attestOptions struct {
	imageOptions
	keyPath string
	noPush  bool
	format  output.Format
}

func newAttestCommand() *cobra.Command {
	var o attestOptions
	cmd := &cobra.Command{
		Use:   "attest [flags] --key FILE docker://IMAGE...",
		Short: "Measure an image, sign the measurement and store it with the image",
		Long: `attest measures an image, makes an in-toto statement of it, signs that (DSSE) and pushes it into the image's repository as a
referrer of the image's manifest. Of a list, each measured image gets its own. verify-image finds it there, and trust fetch.

The key is an unencrypted PEM file, ECDSA P-256 or Ed25519:
  openssl genpkey -algorithm ed25519 -out key.pem && openssl pkey -in key.pem -pubout -out key.pub`,
		Args: atLeastOneImage,
		RunE: func(cmd *cobra.Command, args []string) error {
			return o.run(cmd.Context(), cmd.OutOrStdout(), args)
		},
	}
	o.addFlags(cmd)
	cmd.Flags().StringVar(&o.keyPath, "key", "", "file with the private key")
	cmd.Flags().BoolVar(&o.noPush, "no-push", false, "print the envelopes instead of pushing them, one a line; any transport will do")
	output.AddFlag(cmd, &o.format, attestation{})
	return cmd
}

// attestation is what attest prints of a measurement that it has pushed.
type attestation struct {
	Image          string `json:"image"`
	Platform       string `json:"platform"`
	ManifestDigest string `json:"manifest_digest"`
	ImageRootHash  string `json:"image_root_hash,omitempty"`
	KeyID          string `json:"key_id"`
	Referrer       string `json:"referrer"`
}

func (o *attestOptions) run(ctx context.Context, stdout io.Writer, images []string) error {
	if o.keyPath == "" {
		return cli.Usage(errors.New("--key is missing: the file with the private key to sign with"))
	}
	b, err := os.ReadFile(o.keyPath)
	if err != nil {
		return err
	}
	key, err := trust.ParsePrivateKey(b)
	if err != nil {
		return fmt.Errorf("key %s: %w", o.keyPath, err)
	}
	for _, image := range images {
		if err := o.attest(ctx, stdout, image, key); err != nil {
			return err
		}
	}
	return nil
}

func (o *attestOptions) attest(ctx context.Context, stdout io.Writer, image string, key *trust.PrivateKey) error {
	var repo *referrer.Repository
	if !o.noPush {
		var err error
		if repo, err = o.registry.repository(image); err != nil {
			return err
		}
	}
	measurements, err := o.measure(ctx, image)
	if err != nil {
		return err
	}
	for _, m := range measurements {
		if err := o.attestOne(ctx, stdout, repo, m, key); err != nil {
			return fmt.Errorf("image %s: %w", image, err)
		}
	}
	return nil
}

// attestOne signs a measurement and pushes it to repo, or prints it if there is none.
func (o *attestOptions) attestOne(ctx context.Context, stdout io.Writer, repo *referrer.Repository, m *measure.Measurement,
	key *trust.PrivateKey) error {
	if repo != nil {
		if done, err := o.alreadyThere(ctx, stdout, repo, m, key); err != nil || done {
			return err
		}
	}
	statement, err := trust.NewStatement(m)
	if err != nil {
		return err
	}
	envelope, err := trust.Sign(ctx, statement, key)
	if err != nil {
		return err
	}
	if repo == nil {
		_, err = fmt.Fprintf(stdout, "%s\n", envelope)
		return err
	}
	pushed, err := repo.Push(ctx, envelope, m)
	if err != nil {
		return err
	}
	return o.print(stdout, m, key.ID, pushed)
}

// alreadyThere prints the referrer that has the same, signed with the same key: a second one would say nothing new.
func (o *attestOptions) alreadyThere(ctx context.Context, stdout io.Writer, repo *referrer.Repository, m *measure.Measurement,
	key *trust.PrivateKey) (bool, error) {
	found, _, err := repo.Find(ctx, m.ManifestDigest, []*trust.Key{&key.Key})
	if err != nil {
		return false, err
	}
	for _, f := range found {
		if compareSigned(f.Statement.Predicate, []*measure.Measurement{m}) == nil {
			return true, o.print(stdout, m, key.ID, f.Name)
		}
	}
	return false, nil
}

func (o *attestOptions) print(stdout io.Writer, m *measure.Measurement, keyID, pushed string) error {
	a := attestation{Image: m.Image, Platform: m.Platform, ManifestDigest: m.ManifestDigest, KeyID: keyID, Referrer: pushed}
	if m.ImageVolume != nil {
		a.ImageRootHash = m.ImageVolume.Verity.RootHash
	}
	return o.format.Print(stdout, a, output.Pairs("image", a.Image, "platform", a.Platform, "manifest_digest", a.ManifestDigest,
		"image_root_hash", a.ImageRootHash, "key_id", a.KeyID, "referrer", a.Referrer))
}
