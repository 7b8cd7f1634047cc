package agent

import (
	"archive/tar"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/signal"
	"path/filepath"
	"time"

	securejoin "github.com/cyphar/filepath-securejoin"
	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"golang.org/x/sys/unix"

	"github.com/crio-erofs/crio-erofs/test/standin/agentapi"
)

// pullTimeout bounds a pull; the images of the tests are small.
const pullTimeout = 2 * time.Minute

// pullRootfs lets the guest pull a container's image itself, into its own memory, as the agent and the confidential data
// hub do (src/agent/src/storage/image_pull_handler.rs). The sandbox's image is not pulled: it is in the guest.
func pullRootfs(cid string, s *agentapi.Storage) (*rootfs, error) {
	base := filepath.Join(containerBase, cid)
	r := &rootfs{base: base, mountPoint: filepath.Join(base, "rootfs"), bundle: filepath.Join(base, "rootfs")}
	err := os.MkdirAll(r.bundle, 0o755)
	switch {
	case err != nil:
	case s.MountPoint != r.mountPoint:
		err = fmt.Errorf("mount point %q, want %q", s.MountPoint, r.mountPoint)
	case s.Source == agentapi.PauseImage:
		err = r.pauseBundle()
	default:
		err = pull(s.Source, r.bundle)
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("image_guest_pull of %s: %w", s.Source, err), r.unmount())
	}
	return r, nil
}

// PauseName is how the guest's init knows that it is a sandbox's only process, which waits for its end.
const PauseName = "/pause"

// Pause waits for the end of the sandbox. It does not return.
func Pause() {
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, unix.SIGTERM, unix.SIGINT)
	<-signals
	os.Exit(0)
}

// pauseBundle makes a root of nothing but this program, which waits if it is called PauseName.
func (r *rootfs) pauseBundle() error {
	pause := filepath.Join(r.bundle, PauseName)
	if err := os.WriteFile(pause, nil, 0o755); err != nil {
		return err
	}
	if err := unix.Mount("/init", pause, "", unix.MS_BIND, ""); err != nil {
		return fmt.Errorf("bind /init on %s: %w", pause, err)
	}
	r.mounts = append(r.mounts, pause)
	return nil
}

// pull unpacks an image from the registry into dir.
func pull(image, dir string) error {
	ref, err := name.ParseReference(image, name.Insecure)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(context.Background(), pullTimeout)
	defer cancel()
	transport := &http.Transport{DialContext: dialHost}
	defer transport.CloseIdleConnections()
	img, err := remote.Image(ref, remote.WithContext(ctx), remote.WithTransport(transport))
	if err != nil {
		return err
	}
	flat := mutate.Extract(img)
	defer flat.Close()
	return unpack(flat, dir)
}

// dialHost finds what the host calls itself at its address in the VM's network (QEMU's user network, -nic user).
func dialHost(ctx context.Context, network, address string) (net.Conn, error) {
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		return nil, err
	}
	if ip := net.ParseIP(host); host == "localhost" || ip != nil && ip.IsLoopback() {
		address = net.JoinHostPort(hostAddress, port)
	}
	return (&net.Dialer{}).DialContext(ctx, network, address)
}

// unpack extracts a file system without whiteouts. It knows the types that images for tests have.
func unpack(r io.Reader, dir string) error {
	for tr := tar.NewReader(r); ; {
		h, err := tr.Next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		if err := unpackEntry(h, tr, dir); err != nil {
			return fmt.Errorf("%s: %w", h.Name, err)
		}
	}
}

func unpackEntry(h *tar.Header, r io.Reader, dir string) error {
	parent, err := securejoin.SecureJoin(dir, filepath.Dir(filepath.Clean("/"+h.Name)))
	if err != nil {
		return err
	}
	if err := os.MkdirAll(parent, 0o755); err != nil {
		return err
	}
	path := filepath.Join(parent, filepath.Base(filepath.Clean("/"+h.Name)))
	switch h.Typeflag {
	case tar.TypeDir:
		err = os.MkdirAll(path, 0o755)
	case tar.TypeSymlink:
		err = os.Symlink(h.Linkname, path)
	case tar.TypeLink:
		var old string
		if old, err = securejoin.SecureJoin(dir, h.Linkname); err == nil {
			return os.Link(old, path)
		}
	case tar.TypeReg:
		err = writeFile(path, r)
	default:
		return nil // devices and fifos: containers have their own
	}
	if err != nil {
		return err
	}
	if err := os.Lchown(path, h.Uid, h.Gid); err != nil || h.Typeflag == tar.TypeSymlink {
		return err
	}
	return os.Chmod(path, h.FileInfo().Mode())
}

func writeFile(path string, r io.Reader) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	_, err = io.Copy(f, r)
	return errors.Join(err, f.Close())
}
