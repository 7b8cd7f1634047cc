package crioconfig

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"time"

	"golang.org/x/sys/unix"
)

const (
	// liveTimeout bounds the answer of a running CRI-O, which has it in memory.
	liveTimeout = 5 * time.Second

	// maxLive bounds the answer.
	maxLive = 4 << 20
)

// Live asks the CRI-O that listens on a socket for the configuration that it runs with, as "crio status config" does
// (cri-o 1.34, server/inspect.go). pid is CRI-O's, 0 if the kernel does not tell.
func Live(ctx context.Context, socket string) (c *Config, pid int, err error) {
	ctx, cancel := context.WithTimeout(ctx, liveTimeout)
	defer cancel()
	client := http.Client{Transport: &http.Transport{
		DisableKeepAlives: true,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			var d net.Dialer
			conn, err := d.DialContext(ctx, "unix", socket)
			if err == nil {
				pid = peer(conn)
			}
			return conn, err
		},
	}}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://crio/config", nil)
	if err != nil {
		return nil, 0, err
	}
	resp, err := client.Do(req)
	if u := (*url.Error)(nil); errors.As(err, &u) {
		err = u.Err // the address that it names is none
	}
	if err != nil {
		return nil, pid, err
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(io.LimitReader(resp.Body, maxLive))
	if err != nil {
		return nil, pid, err
	}
	if resp.StatusCode != http.StatusOK {
		return nil, pid, fmt.Errorf("CRI-O answers %s", resp.Status)
	}
	c = &Config{}
	if err := c.decode(string(b)); err != nil {
		return nil, pid, fmt.Errorf("CRI-O's answer: %w", err)
	}
	return c, pid, nil
}

// peer returns the process that listens at the other end (SO_PEERCRED in unix(7)).
func peer(conn net.Conn) int {
	u, ok := conn.(*net.UnixConn)
	if !ok {
		return 0
	}
	raw, err := u.SyscallConn()
	if err != nil {
		return 0
	}
	pid := 0
	_ = raw.Control(func(fd uintptr) {
		if cred, err := unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED); err == nil {
			pid = int(cred.Pid)
		}
	})
	return pid
}
