package main

import (
	"bufio"
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha1" //nolint:gosec // the scheme that is measured
	"encoding/hex"
	"errors"
	"fmt"
	"net"
	"strconv"
	"strings"
	"sync"
	"time"
)

// body of a terminal StatusCallback as Exotel sends it, with place for the call's id in front.
const body = "&EventType=terminal&Status=completed&DateCreated=2026-01-15+14%3A25%3A10" +
	"&DateUpdated=2026-01-15+14%3A30%3A45&To=09123456789" +
	"&From=09876543210&PhoneNumberSid=08047491899&StartTime=2026-01-15+14%3A25%3A12&EndTime=2026-01-15+14%3A30%3A45" +
	"&ConversationDuration=320" +
	"&Direction=outbound-api&CustomField=order_12345&Legs%5B0%5D%5BOnCallDuration%5D=335" +
	"&Legs%5B0%5D%5BStatus%5D=completed" +
	"&Legs%5B1%5D%5BOnCallDuration%5D=320&Legs%5B1%5D%5BStatus%5D=completed"

// load sends events over a number of connections, each the next one once the last is answered, until the time is up.
func load(ctx context.Context, addr string, clients int, d time.Duration, recordings bool) (result, error) {
	ctx, cancel := context.WithTimeout(ctx, d+30*time.Second)
	defer cancel()
	var (
		mu   sync.Mutex
		all  []time.Duration
		errs []error
		wg   sync.WaitGroup
	)
	begun := time.Now()
	for range clients {
		wg.Go(func() {
			latencies, err := sendUntil(ctx, addr, begun.Add(d), recordings)
			mu.Lock()
			defer mu.Unlock()
			all = append(all, latencies...)
			errs = append(errs, err)
		})
	}
	wg.Wait()
	took := time.Since(begun)
	if err := errors.Join(errs...); err != nil {
		return result{}, err
	}
	return summary(all, took)
}

// sendUntil writes requests by hand: a client that cost as much as the server would measure itself.
func sendUntil(ctx context.Context, addr string, end time.Time, recordings bool) ([]time.Duration, error) {
	conn, err := (&net.Dialer{}).DialContext(ctx, "tcp", addr)
	if err != nil {
		return nil, err
	}
	defer func() { _ = conn.Close() }()
	_ = conn.SetDeadline(end.Add(20 * time.Second))
	seed := make([]byte, 8)
	_, _ = rand.Read(seed) // never fails
	prefix := hex.EncodeToString(seed)
	mac := hmac.New(sha1.New, []byte(webhookSecret))
	in := bufio.NewReader(conn)
	var request []byte
	latencies := make([]time.Duration, 0, 1<<14)
	for n := 0; ; n++ {
		start := time.Now()
		if start.After(end) || ctx.Err() != nil {
			return latencies, ctx.Err()
		}
		event := fmt.Sprintf("CallSid=%s%016d%s", prefix, n, body)
		if recordings {
			event += fmt.Sprintf("&RecordingUrl=https%%3A%%2F%%2Frecordings.exotel.com%%2Fx%%2F%s%016d.mp3", prefix, n)
		}
		mac.Reset()
		mac.Write([]byte(event))
		request = append(
			request[:0],
			"POST /webhooks/exotel/"+tenantID+"/status HTTP/1.1\r\nHost: caly\r\nContent-Type: "+
				"application/x-www-form-urlencoded\r\nX-Exotel-Signature: "...)
		request = hex.AppendEncode(request, mac.Sum(nil))
		request = append(request, "\r\nContent-Length: "...)
		request = strconv.AppendInt(request, int64(len(event)), 10)
		request = append(append(request, "\r\n\r\n"...), event...)
		if _, err := conn.Write(request); err != nil {
			return nil, err
		}
		if err := readAck(in); err != nil {
			return nil, err
		}
		latencies = append(latencies, time.Since(start))
	}
}

// readAck takes an answer without a body, and nothing but 200.
func readAck(in *bufio.Reader) error {
	status, err := in.ReadString('\n')
	if err != nil {
		return err
	}
	if !strings.HasPrefix(status, "HTTP/1.1 200 ") {
		return fmt.Errorf("answered %q", strings.TrimSpace(status))
	}
	for {
		line, err := in.ReadSlice('\n')
		if err != nil {
			return err
		}
		if len(line) <= 2 {
			return nil
		}
	}
}
