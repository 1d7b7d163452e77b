package agent

import (
	"bytes"
	"encoding/base64"
	"fmt"
	"strings"
	"testing"

	"github.com/caly-dev/caly/internal/exotel/agentstream"
)

// pieces returns the audio that Exotel gets for a frame of the agent, by message.
func pieces(t *testing.T, codec Codec, frame []byte, binary bool) (all [][]byte) {
	t.Helper()
	scanner := agentstream.Scanner{FromAgent: true}
	for out, err := codec.FromAgent(nil, frame, binary); ; out, err = codec.More(nil) {
		if err != nil {
			t.Fatal(err)
		}
		if out.Send {
			message, err := scanner.Scan(out.Frame)
			if err != nil {
				t.Fatal(err)
			}
			audio, err := base64.StdEncoding.DecodeString(string(message.Payload))
			if err != nil {
				t.Fatal(err)
			}
			all = append(all, audio)
		}
		if !out.More {
			return all
		}
	}
}

// TestLongFrames verifies that a long frame of an agent becomes messages of a size that Exotel takes. The audio is the same as in short
// frames.
func TestLongFrames(t *testing.T) {
	const long, short = 190_000, 160 // bytes
	source := make([]byte, long)
	for i := range source {
		source[i] = byte(i * i >> 3)
	}
	for _, rate := range []int{8000, 16000, 24000} {
		for _, protocol := range []Protocol{Twilio, PCM} {
			t.Run(fmt.Sprint(protocol, rate), func(t *testing.T) {
				frame := func(b []byte) []byte {
					if protocol == PCM {
						return b
					}
					return []byte(
						`{"event":"media","media":{"payload":"` + base64.StdEncoding.EncodeToString(b) + `"}}`,
					)
				}
				got := pieces(t, open(t, protocol, startInfo(rate)), frame(source), protocol == PCM)
				for i, p := range got {
					if len(p) > 100_000 || i > 0 && i < len(got)-1 && len(p)%320 != 0 {
						t.Errorf("piece %d has %d bytes", i, len(p))
					}
				}
				var want []byte
				codec := open(t, protocol, startInfo(rate))
				for rest := source; len(rest) > 0; rest = rest[min(len(rest), short):] {
					part := pieces(t, codec, frame(rest[:min(len(rest), short)]), protocol == PCM)
					want = append(want, bytes.Join(part, nil)...)
				}
				if all := bytes.Join(got, nil); len(got) < 2 || !bytes.Equal(all, want) {
					t.Errorf(
						"%d bytes in %d pieces, want the same %d as in short frames", len(all), len(got), len(want),
					)
				}
			})
		}
	}
}

// TestLineBreaks verifies that base64 with line breaks, as MIME has it, is read at every size, from both sides.
func TestLineBreaks(t *testing.T) {
	audio := bytes.Repeat([]byte{0x10, 0x20, 0x30, 0x40}, 100)
	for n := 2; n <= len(audio); n += 2 {
		text := base64.StdEncoding.EncodeToString(audio[:n])
		var lines strings.Builder
		for rest := text; rest != ""; rest = rest[min(len(rest), 76):] {
			lines.WriteString(rest[:min(len(rest), 76)] + `\r\n`)
		}
		frame := func(payload string) []byte {
			return []byte(`{"event":"media","stream_sid":"s1","media":{"payload":"` + payload + `"}}`)
		}
		want := bytes.Join(pieces(t, open(t, Twilio, startInfo(8000)), frame(text), false), nil)
		if got := bytes.Join(
			pieces(t, open(t, Twilio, startInfo(8000)), frame(lines.String()), false), nil,
		); !bytes.Equal(got, want) {
			t.Fatalf("%d bytes from the agent: %d were heard, want %d", n, len(got), len(want))
		}
		var scanner agentstream.Scanner
		message, err := scanner.Scan(frame(lines.String()))
		if err != nil {
			t.Fatal(err)
		}
		if got, _, _, err := open(t, PCM, startInfo(8000)).FromExotel(nil, message); err != nil ||
			!bytes.Equal(got, audio[:n]) {
			t.Fatalf("%d bytes from Exotel: %d, %v", n, len(got), err)
		}
	}
}
