package shim

import (
	"errors"
	"fmt"
	"net"
	"os"
	"os/signal"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"sync/atomic"
	"time"

	"github.com/sirupsen/logrus"
	"golang.org/x/sys/unix"

	"github.com/crio-erofs/crio-erofs/kata/modes"
	measured "github.com/crio-erofs/crio-erofs/kata/trust"
)

// daemonMemory is where the daemon's garbage collector starts to work hard. There is one daemon per pod.
const daemonMemory = 8 << 20

// drainTimeout bounds how long a daemon whose real shim no longer listens waits for the connections that are left.
const drainTimeout = 30 * time.Second

// errStopped ends a daemon that was asked to stop while its real shim lives on.
var errStopped = errors.New("stopped by a signal")

// daemon is the process behind a pod's proxy.
type daemon struct {
	dir      string
	state    *podState
	listener *net.UnixListener
	events   *net.UnixListener // nil: the real shim publishes none here
	alive    *os.File
	log      *logrus.Entry
	closing  atomic.Bool
}

// runDaemon is the daemon's main function. It returns the exit code.
func runDaemon(dir string) int {
	debug.SetMemoryLimit(daemonMemory)
	debug.SetGCPercent(50)
	runtime.GOMAXPROCS(2)
	ready := os.NewFile(readyFD, "ready")
	unix.CloseOnExec(readyFD)
	d, watch, err := newDaemon(dir)
	if err != nil {
		// There may be nobody to read it, if a person gave daemonArg on the command line.
		if _, werr := ready.WriteString(err.Error()); werr != nil {
			fmt.Fprintf(os.Stderr, "%s is for internal use: %v\n", daemonArg, err)
		}
		return 1
	}
	_, _ = ready.WriteString(readyMessage)
	ready.Close()
	if err := d.run(watch); err != nil {
		d.log.WithError(err).Error("proxy ends")
		return 1
	}
	return 0
}

func newDaemon(dir string) (*daemon, *net.UnixConn, error) {
	ul, err := inheritedListener(listenerFD)
	if err != nil {
		return nil, nil, err
	}
	p := &pod{dir: dir} // locked by the parent
	state, err := p.readState()
	if err != nil {
		return nil, nil, err
	}
	var events *net.UnixListener
	if state.Events != "" {
		if events, err = inheritedListener(eventsFD); err != nil {
			return nil, nil, err
		}
	}
	alive, err := lockedFile(p.path(aliveFile), unix.LOCK_EX|unix.LOCK_NB)
	if err != nil {
		return nil, nil, err
	}
	if err := writePID(alive); err != nil {
		return nil, nil, err
	}
	log := newLog()
	watch, err := dial(state.realPath())
	if err != nil {
		return nil, nil, fmt.Errorf("real shim: %w", err)
	}
	// systemd kills what ExecStartPre= leaves in a service's group, and restoreProxies is used there.
	followCgroup(state.RealPID, log)
	return &daemon{dir: dir, state: state, listener: ul, events: events, alive: alive, log: log}, watch, nil
}

func inheritedListener(fd uintptr) (*net.UnixListener, error) {
	f := os.NewFile(fd, "listener")
	defer f.Close() // FileListener has a copy, which alone must keep the socket open
	l, err := net.FileListener(f)
	if err != nil {
		return nil, fmt.Errorf("no listening socket inherited: %w", err)
	}
	ul, ok := l.(*net.UnixListener)
	if !ok {
		l.Close()
		return nil, errors.New("the inherited socket is not a unix socket")
	}
	ul.SetUnlinkOnClose(false)
	return ul, nil
}

func writePID(f *os.File) error {
	if err := f.Truncate(0); err != nil {
		return err
	}
	_, err := fmt.Fprintf(f, "%d\n", os.Getpid())
	return err
}

// newLog logs to stderr, which is the pod directory's log file: a crash's trace has to be there too.
func newLog() *logrus.Entry {
	l := logrus.New()
	l.SetFormatter(&logrus.TextFormatter{FullTimestamp: true, DisableColors: true})
	return l.WithField("pid", os.Getpid())
}

// run serves until the real shim is gone, then removes everything that belongs to it.
func (d *daemon) run(watch *net.UnixConn) error {
	dec := &decider{
		sandbox:   d.state.Sandbox,
		handler:   func() (modes.Handler, error) { return loadHandler(d.state.Handler) },
		runtime:   newVersionAsker(d.state.RealShim, d.state.RealPID, d.log).identity,
		mounts:    func() (hostMounts, error) { return mountsOf(d.state.RealPID) },
		emptyFile: filepath.Join(d.dir, emptyFile),
		trusted:   measured.NextTo(os.Getenv(modes.Environment)),
	}
	ends := &endings{realPath: d.state.realPath(), log: d.log}
	px := &proxy{
		realPath:      d.state.realPath(),
		endings:       ends,
		decide:        dec.rootfs,
		decideTimeout: decideTimeout,
		created:       func() { go followCgroup(d.state.RealPID, d.log) },
		log:           d.log,
	}
	ended := make(chan error, 2)
	go func() { d.watch(watch); ended <- nil }()
	go d.stopOnSignal(ended)
	go sweep(filepath.Dir(d.dir))
	d.serveEvents(ends)
	go func() {
		ended <- d.accept(d.listener, func(c *net.UnixConn) { px.conns.Go(func() { px.serve(c) }) })
	}()
	err := <-ended
	d.closing.Store(true)
	d.listener.Close()
	if d.events != nil {
		d.events.Close()
	}
	if err != nil {
		return err // the state stays, for restoreProxies or the pod's next container
	}
	d.log.Info("real shim is gone")
	drain(px)
	return d.cleanUp()
}

// serveEvents hears what the real shim publishes, if it does so here.
func (d *daemon) serveEvents(ends *endings) {
	if d.events == nil {
		return
	}
	ends.grace = oomGrace
	go func() {
		if err := d.accept(d.events, func(c *net.UnixConn) { go events{ends}.serve(c) }); err != nil {
			d.log.WithError(err).Error("events are not passed on")
		}
	}()
}

// accept serves clients, each on goroutines of its own.
func (d *daemon) accept(l *net.UnixListener, serve func(*net.UnixConn)) error {
	for {
		c, err := l.AcceptUnix()
		if err != nil {
			if d.closing.Load() {
				return nil
			}
			if errors.Is(err, unix.EMFILE) || errors.Is(err, unix.ENFILE) || errors.Is(err, unix.ENOMEM) {
				d.log.WithError(err).Error("connections cannot be accepted")
				time.Sleep(100 * time.Millisecond)
				continue
			}
			return fmt.Errorf("accept: %w", err)
		}
		serve(c)
	}
}

// watch returns when the real shim is gone: nobody listens on its socket any more. A connection that ends is only a
// hint, because a ttrpc server that shuts down closes idle connections first.
func (d *daemon) watch(c *net.UnixConn) {
	buf := make([]byte, 512)
	for {
		for {
			// Nothing is ever asked on this connection, so nothing is answered.
			if _, err := c.Read(buf); err != nil {
				break
			}
		}
		c.Close()
		next, err := dial(d.state.realPath())
		for err != nil && !errors.Is(err, unix.ECONNREFUSED) && !errors.Is(err, unix.ENOENT) {
			d.log.WithError(err).Warn("real shim cannot be watched")
			time.Sleep(time.Second)
			next, err = dial(d.state.realPath())
		}
		if err != nil {
			return
		}
		c = next
		time.Sleep(100 * time.Millisecond) // a server that accepts and closes at once must not keep us busy
	}
}

func (d *daemon) stopOnSignal(ended chan<- error) {
	signals := make(chan os.Signal, 1)
	signal.Ignore(unix.SIGHUP, unix.SIGINT, unix.SIGPIPE)
	signal.Notify(signals, unix.SIGTERM)
	<-signals
	ended <- errStopped
}

// drain waits for the real shim to end its connections, as it does by exiting, and for the clients to notice.
func drain(px *proxy) {
	done := make(chan struct{})
	go func() { px.conns.Wait(); close(done) }()
	select {
	case <-done:
	case <-time.After(drainTimeout):
	}
}

// cleanUp removes the pod directory, the socket for events and one that the real shim left behind.
func (d *daemon) cleanUp() error {
	p, err := tryLockPod(d.dir, unix.LOCK_EX)
	if err != nil || p == nil {
		return ignoreNotExist(err)
	}
	removeStaleSocket(d.state.realPath())
	if d.state.Events != "" {
		// Ours: it would look alive as long as the goroutine that accepts has not seen its end.
		if err := ignoreNotExist(os.Remove(d.state.Events)); err != nil {
			d.log.Error(err)
		}
	}
	return p.remove()
}
