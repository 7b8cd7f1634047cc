package matrix

import (
	"errors"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strings"

	"github.com/sirupsen/logrus"
)

// journalSocket is where runtime-rs sends its log, and to nowhere else (kata-containers 4.1.0,
// src/runtime-rs/crates/shim/src/logger.rs); systemd-journald listens there, if there is one.
const journalSocket = "/run/systemd/journal/socket"

// syslogSocket is where the Go runtime sends its log; its shim does not start without (kata-containers 4.1.0,
// src/runtime/pkg/katautils/logger.go, newSystemLogHook).
const syslogSocket = "/dev/log"

// keepLogs writes to the file path what Kata's runtimes say, unless the machine has a journal of its own.
func keepLogs(path string) (stop func(), err error) {
	stopJournal, err := keep(journalSocket, path)
	if err != nil {
		return nil, err
	}
	stopSyslog, err := keep(syslogSocket, path)
	if err != nil {
		stopJournal()
		return nil, err
	}
	return func() { stopJournal(); stopSyslog() }, nil
}

// keep writes to the file path what comes to a socket, unless somebody else listens there.
func keep(socket, path string) (stop func(), err error) {
	nothing := func() {}
	if _, err := os.Stat(socket); err == nil {
		if answers(socket) {
			logrus.Infof("what comes to %s is in the machine's own log: journalctl -t kata-runtime, -t kata", socket)
			return nothing, nil
		}
		if err := os.Remove(socket); err != nil {
			return nothing, err
		}
	} else if !errors.Is(err, fs.ErrNotExist) {
		return nothing, err
	}
	if err := os.MkdirAll(filepath.Dir(socket), 0o755); err != nil {
		return nothing, err
	}
	log, err := os.OpenFile(path, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return nothing, err
	}
	conn, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: socket, Net: "unixgram"})
	if err != nil {
		return nothing, errors.Join(err, log.Close())
	}
	go func() {
		defer log.Close()
		b := make([]byte, 1<<20)
		for {
			n, err := conn.Read(b)
			if err != nil {
				return // closed
			}
			if _, err := log.WriteString(journalLine(string(b[:n]))); err != nil {
				return
			}
		}
	}()
	return func() { conn.Close(); os.Remove(socket) }, nil // net removes stream sockets only
}

// answers says whether somebody listens on a datagram socket.
func answers(socket string) bool {
	conn, err := net.Dial("unixgram", socket)
	if err != nil {
		return false
	}
	return conn.Close() == nil
}

// journalLine makes a line of a journal entry's fields, the message first.
func journalLine(entry string) string {
	var message string
	var rest []string
	for line := range strings.Lines(strings.TrimSpace(entry)) {
		line = strings.TrimSuffix(line, "\n")
		if m, ok := strings.CutPrefix(line, "MESSAGE="); ok {
			message = m
		} else {
			rest = append(rest, line)
		}
	}
	return message + " " + strings.Join(rest, " ") + "\n"
}
