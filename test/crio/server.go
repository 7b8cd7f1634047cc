// Package crio runs the CRI-O of bin/ in a private folder and talks CRI to it: for tests, and for the demo. Its
// configuration is contrib's, with nothing but the paths replaced.
package crio

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"
	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/credentials/insecure"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/crio-erofs/crio-erofs/test/env"
)

// startTimeout bounds CRI-O's start. It asks the shim of every handler what it is, which takes emulated CPUs minutes.
const startTimeout = 5 * time.Minute

// connectParams has a client look for the socket as often as WaitFor asks, and not, as by default, a second after it was
// not there (gRPC's connection-backoff.md). The time limit of an attempt is the default.
var connectParams = grpc.ConnectParams{
	Backoff:           backoff.Config{BaseDelay: 50 * time.Millisecond, Multiplier: 1, MaxDelay: 50 * time.Millisecond},
	MinConnectTimeout: 20 * time.Second,
}

// Options says how to run CRI-O.
type Options struct {
	// Dir is the private folder, empty, missing or made by CopyStore. Its path is short: sockets below it must fit 107
	// bytes.
	Dir string

	Registry   string // host:port of a registry that speaks plain HTTP
	PauseImage string // reference of the sandbox containers' image

	// StandIn is what the VM handler's interposer starts in place of Kata. Without it there is no VM handler.
	StandIn *env.StandIn

	// Kata is a real Kata for the VM handler, instead of the stand-in.
	Kata *Kata

	// StorageOptions are options of the driver, such as erofs.image_volume=copy, instead of contrib's.
	StorageOptions []string

	// ImageStore has CRI-O keep images apart from containers, in ImageRoot.
	ImageStore bool

	// Config is crio-erofs's own configuration file; contrib's if empty.
	Config string

	// WithoutPlugin leaves the NRI plugin away, as after a botched installation.
	WithoutPlugin bool

	// Release is where another release was built, whose CRI-O and hook run; empty: this one.
	Release string

	// StorageDriver replaces contrib's driver, as a control.
	StorageDriver string

	LogLevel string   // "info" if empty
	Env      []string // added to CRI-O's environment
}

// Kata is one of the runtimes of a Kata installation.
type Kata struct {
	Shim   string // path of its containerd-shim-kata-v2
	Config string // path of the configuration file that it is to use

	Configs map[string]string // other configuration files, by handler
}

// Server is a running CRI-O.
type Server struct {
	opts    Options
	crio    string
	pinns   string
	hook    string
	dropIn  string // contrib's, of crio.conf.d
	process *env.Process
	conn    *grpc.ClientConn
	runtime cri.RuntimeServiceClient
	images  cri.ImageServiceClient
}

// Start starts CRI-O and waits until it is ready.
func Start(ctx context.Context, opts Options) (*Server, error) {
	if opts.LogLevel == "" {
		opts.LogLevel = "info"
	}
	s := &Server{opts: opts}
	if err := s.usePrograms(opts.Release); err != nil {
		return nil, err
	}
	if err := s.prepare(); err != nil {
		return nil, fmt.Errorf("prepare CRI-O in %s: %w", opts.Dir, err)
	}
	if err := s.Run(ctx); err != nil {
		return nil, errors.Join(err, s.sweep())
	}
	return s, nil
}

// path returns the path of a thing in the private folder.
func (s *Server) path(name string) string { return filepath.Join(s.opts.Dir, name) }

func (s *Server) socket() string { return s.path("crio.sock") }

// Dir returns the private folder.
func (s *Server) Dir() string { return s.opts.Dir }

// GraphRoot returns the folder of the container store.
func (s *Server) GraphRoot() string { return s.path("graphroot") }

// ImageRoot returns the folder of the images' store, if they have one of their own.
func (s *Server) ImageRoot() string { return s.path("images") }

// VolumesRoot returns the folder of the store that has images.
func (s *Server) VolumesRoot() string {
	if s.opts.ImageStore {
		return s.ImageRoot()
	}
	return s.GraphRoot()
}

// cgroup returns the control group, below which all pods are.
func (s *Server) cgroup() string { return "/" + strings.ReplaceAll(s.opts.Dir, "/", "-")[1:] }

// LogFile returns the path of CRI-O's log.
func (s *Server) LogFile() string { return s.path("crio.log") }

// prepare makes the folders, the configuration, and links to the hook and the shims.
func (s *Server) prepare() error {
	if len(s.path("attach/")) > 40 {
		// CRI-O adds a container's id (64) and a file name; sun_path has 108 bytes (unix(7)).
		return fmt.Errorf("the path is too long for sockets below it")
	}
	for _, dir := range []string{"nri/plugins", "hooks.d", "shims", "tmp", "ns", "vm"} {
		if err := os.MkdirAll(s.path(dir), 0o755); err != nil {
			return err
		}
	}
	if err := s.writeConfig(); err != nil {
		return err
	}
	if s.opts.StorageDriver != "" {
		return nil // without the driver there is nothing to annotate
	}
	if s.opts.WithoutPlugin {
		return s.prepareShims()
	}
	if err := os.Symlink(s.hook, s.path("nri/plugins/10-crio-erofs")); err != nil {
		return err
	}
	return s.prepareShims()
}

// prepareShims puts the interposer and the shim behind it into one folder, as an installation does.
func (s *Server) prepareShims() error {
	if s.opts.StandIn == nil && s.opts.Kata == nil {
		return nil
	}
	interposer, err := env.Bin("containerd-shim-kata-erofs-v2")
	if err != nil {
		return err
	}
	programs := map[string]string{"containerd-shim-kata-erofs-v2": interposer}
	if s.opts.StandIn != nil {
		programs["containerd-shim-kata-v2"] = s.opts.StandIn.Shim
	}
	for name, from := range programs {
		// Copies: a program that looks for another beside itself would look beside a link's target.
		content, err := os.ReadFile(from)
		if err != nil {
			return err
		}
		if err := os.WriteFile(filepath.Join(s.path("shims"), name), content, 0o755); err != nil {
			return err
		}
	}
	for _, handler := range []string{HandlerVMLayer, HandlerVMGuestPull} {
		if err := os.Symlink(shimName(HandlerVM), filepath.Join(s.path("shims"), shimName(handler))); err != nil {
			return err
		}
	}
	return nil
}

// Run starts CRI-O again after Terminate or Kill. Containers of the VM handler go on without it, as do those of runc.
func (s *Server) Run(ctx context.Context) error {
	cmd := exec.Command(s.crio, "--config", s.path("crio.conf"), "--config-dir", s.path("crio.conf.d"))
	cmd.Env = s.environment()
	var err error
	if s.process, err = env.StartProcess(cmd, s.LogFile()); err != nil {
		return err
	}
	return s.connect(ctx, s.socket())
}

// Connect returns a client of a CRI-O that has been started otherwise, when it is ready. It writes pods' logs below dir,
// and their control groups have names of it, as with a CRI-O of Start.
func Connect(ctx context.Context, process *env.Process, socket, dir string) (*Server, error) {
	s := &Server{opts: Options{Dir: dir}, process: process}
	return s, s.connect(ctx, socket)
}

// Disconnect removes all pods and ends a CRI-O of Connect. What CRI-O has in dir stays.
func (s *Server) Disconnect() error {
	err := s.RemoveAllPods(context.Background())
	s.Terminate()
	return errors.Join(err, s.removeCgroups())
}

// connect waits until CRI-O is ready, and ends it if that takes too long.
func (s *Server) connect(ctx context.Context, socket string) error {
	var err error
	s.conn, err = grpc.NewClient("unix://"+socket, grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithConnectParams(connectParams), grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(16<<20)))
	if err != nil {
		s.process.Stop(0)
		return err
	}
	s.runtime, s.images = cri.NewRuntimeServiceClient(s.conn), cri.NewImageServiceClient(s.conn)
	if err := s.process.WaitFor(ctx, startTimeout, s.ready); err != nil {
		s.Terminate()
		return err
	}
	return nil
}

// ready leaves out the network, for which CRI-O looks every half second: a pod that needs it waits for it (cri-o 1.34,
// server/sandbox_network.go, waitForCNIPlugin).
func (s *Server) ready(ctx context.Context) error {
	resp, err := s.runtime.Status(ctx, &cri.StatusRequest{})
	if err != nil {
		return err
	}
	for _, c := range resp.GetStatus().GetConditions() {
		if !c.GetStatus() && c.GetType() != cri.NetworkReady {
			return fmt.Errorf("%s: %s: %s", c.GetType(), c.GetReason(), c.GetMessage())
		}
	}
	return nil
}

// Terminate ends CRI-O with SIGTERM, as an upgrade does: pods go on running.
func (s *Server) Terminate() {
	s.conn.Close()
	s.process.Stop(20 * time.Second)
}

// Kill ends CRI-O with SIGKILL, in the middle of whatever it is doing.
func (s *Server) Kill() {
	s.process.Signal(unix.SIGKILL)
	<-s.process.Done()
	s.conn.Close()
}

// CopyStore copies the container store into the folder dir, from which another CRI-O can then be started. No pod may
// run: what is mounted is not copied.
func (s *Server) CopyStore(ctx context.Context, dir string) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	// CRI-O removes all images of a store without the file that names the version it is of.
	out, err := exec.CommandContext(ctx, "cp", "--archive", "--one-file-system", "--reflink=auto",
		s.GraphRoot(), s.path("version-persist"), dir).CombinedOutput()
	if err != nil {
		return fmt.Errorf("copy store %s to %s: %w: %s", s.GraphRoot(), dir, err, out)
	}
	return nil
}

// Close removes all pods, ends CRI-O and takes away what it left: mounts, processes, the private folder. What had to
// be taken away by force is an error.
func (s *Server) Close() error {
	err := s.RemoveAllPods(context.Background())
	s.Terminate()
	return errors.Join(err, s.sweep())
}
