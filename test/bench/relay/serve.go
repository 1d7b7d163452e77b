package main

import (
	"bufio"
	"crypto/sha1" //nolint:gosec // RFC 6455's
	"encoding/base64"
	"fmt"
	"net"
	"net/http"
	"os"
	"regexp"
	"runtime/debug"
	"strconv"
	"syscall"
)

// serve is a relay. It answers questions on its standard input, and ends with it.
func serve(kind, agent string) error {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	switch kind {
	case "tcp":
		go proxy(l, agent, copyThrough)
	case "splice":
		go proxy(l, agent, spliceThrough)
	default:
		handler, ok := map[string]func(agent string) http.Handler{
			"caly":    caly,
			"gws":     gwsRelay,
			"gorilla": gorilla,
		}[kind]
		if !ok {
			return fmt.Errorf("no relay is called %q", kind)
		}
		go func() { _ = http.Serve(l, handler(agent)) }() //nolint:gosec // on loopback, for a minute
	}
	fmt.Println(l.Addr())
	questions := bufio.NewScanner(os.Stdin)
	for questions.Scan() {
		switch questions.Text() {
		case "cpu":
			var u syscall.Rusage
			if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
				return err
			}
			fmt.Println((u.Utime.Nano() + u.Stime.Nano()) / 1000)
		case "memory":
			debug.FreeOSMemory()
			debug.FreeOSMemory() // pools need two collections
			kib, err := resident()
			if err != nil {
				return err
			}
			fmt.Println(kib)
		}
	}
	return nil
}

var residentLine = regexp.MustCompile(`VmRSS:\s+(\d+) kB`)

func resident() (int, error) {
	status, err := os.ReadFile("/proc/self/status")
	if err != nil {
		return 0, err
	}
	m := residentLine.FindSubmatch(status)
	if m == nil {
		return 0, fmt.Errorf("this system does not tell a process's memory")
	}
	return strconv.Atoi(string(m[1]))
}

func accept(key string) string {
	sum := sha1.Sum([]byte(key + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11")) //nolint:gosec // RFC 6455's
	return base64.StdEncoding.EncodeToString(sum[:])
}
