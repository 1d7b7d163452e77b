// Command pause holds a pod's namespaces open: it reaps the children that it inherits and ends on SIGTERM or SIGINT.
//
//	pause                    waits
//	pause listen PORT        answers every TCP connection to the port with "hello" until it is ended
//	pause dial ADDRESS...    tries all addresses at once, for three seconds; prints "ADDRESS open" or "ADDRESS closed"
//
// The last two show in tests which pods reach which.
package main

import (
	"fmt"
	"net"
	"os"
	"os/signal"
	"syscall"
	"time"
)

func main() {
	switch {
	case len(os.Args) == 3 && os.Args[1] == "listen":
		fmt.Fprintln(os.Stderr, "pause:", listen(os.Args[2]))
		os.Exit(1)
	case len(os.Args) > 2 && os.Args[1] == "dial":
		dial(os.Args[2:])
	default:
		wait()
	}
}

func wait() {
	signals := make(chan os.Signal, 16)
	signal.Notify(signals, syscall.SIGCHLD, syscall.SIGTERM, syscall.SIGINT)
	for s := range signals {
		if s != syscall.SIGCHLD {
			return
		}
		reap()
	}
}

// reap collects every child that has ended: several may stand behind one SIGCHLD.
func reap() {
	for {
		pid, err := syscall.Wait4(-1, nil, syscall.WNOHANG, nil)
		if err == syscall.EINTR {
			continue
		}
		if err != nil || pid <= 0 {
			return
		}
	}
}

// listen answers one connection after the other.
func listen(port string) error {
	listener, err := net.Listen("tcp", ":"+port)
	if err != nil {
		return err
	}
	for {
		conn, err := listener.Accept()
		if err != nil {
			return err
		}
		_, _ = conn.Write([]byte("hello"))
		_ = conn.Close()
	}
}

// dial prints the result of each address in the order of the arguments.
func dial(addresses []string) {
	results := make([]chan string, len(addresses))
	for i, address := range addresses {
		results[i] = make(chan string, 1)
		go func() {
			conn, err := net.DialTimeout("tcp", address, 3*time.Second)
			if err != nil {
				results[i] <- "closed"
				return
			}
			_ = conn.Close()
			results[i] <- "open"
		}()
	}
	for i, address := range addresses {
		fmt.Println(address, <-results[i])
	}
}
