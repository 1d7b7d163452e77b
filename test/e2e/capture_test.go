//go:build e2e

package e2e

import (
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"testing"
	"time"

	"github.com/minio/minio-go/v7"

	"github.com/caly-dev/caly/internal/testkit/eventually"
	"github.com/caly-dev/caly/internal/wav"
)

// capture has the Tenant's calls captured, and waits until every data-plane pod does it.
func (x *line) capture(t *testing.T) {
	t.Helper()
	x.change(t, `{"audio":{"capture":{"enabled":true}}}`)
	captured := 0 // in a row
	minute.Reaches(t, "every pod captures the Tenant's calls", func(ctx context.Context) (bool, string) {
		for captured < 10 {
			before := x.captures(ctx, t)
			if _, err := x.call(200 * time.Millisecond).Run(ctx); err != nil {
				return false, err.Error()
			}
			time.Sleep(200 * time.Millisecond) // its row comes behind the call
			if after := x.captures(
				ctx, t,
			); after["uploaded"]+after["recording"] == before["uploaded"]+before["recording"] {
				captured = 0
				return false, "a call was not captured"
			}
			captured++
		}
		return true, ""
	})
}

// captures are the Tenant's by state.
func (x *line) captures(ctx context.Context, t *testing.T) map[string]int {
	t.Helper()
	rows, err := x.db.Query(
		ctx,
		`SELECT CASE state WHEN 'failed' THEN state || ' ' || error_code ELSE state END, count(*) FROM captures
			WHERE tenant = $1 GROUP BY 1`,
		x.id(),
	)
	if err != nil {
		t.Fatal(err)
	}
	defer rows.Close()
	counts := map[string]int{}
	for rows.Next() {
		var state string
		var n int
		if err := rows.Scan(&state, &n); err != nil {
			t.Fatal(err)
		}
		counts[state] = n
	}
	return counts
}

// settled waits until no capture is under way any more, and returns the Tenant's by state.
func (x *line) settled(t *testing.T, within time.Duration) (counts map[string]int) {
	t.Helper()
	eventually.Within(within).Reaches(t, "the captures are settled", func(ctx context.Context) (bool, string) {
		counts = x.captures(ctx, t)
		return counts["recording"] == 0, fmt.Sprint(counts)
	})
	return counts
}

// TestCapture verifies that each call of a Tenant with capture becomes one file in its bucket. The file is as long as
// the call and has both sides. The bucket holds no other object.
func TestCapture(t *testing.T) {
	line := newLine(t, 100)
	line.capture(t)
	before := line.settled(t, time.Minute)["uploaded"]
	const calls, lasts = 10, 6 * time.Second
	line.place(t.Context(), calls, line.call(lasts)).whole(t)
	if counts := line.settled(t, time.Minute); len(counts) != 1 || counts["uploaded"] != before+calls {
		t.Fatalf("captured: %v, %d of them before", counts, before)
	}
	keys := line.objects(t)
	if len(keys) != before+calls {
		t.Errorf("%d objects are in the bucket, want %d: %v", len(keys), before+calls, keys)
	}
	rows, err := line.db.Query(
		t.Context(),
		`SELECT object_key, size FROM captures WHERE tenant = $1 ORDER BY created_at DESC LIMIT $2`,
		line.id(),
		calls,
	)
	if err != nil {
		t.Fatal(err)
	}
	defer rows.Close()
	for rows.Next() {
		var key string
		var size int
		if err := rows.Scan(&key, &size); err != nil {
			t.Fatal(err)
		}
		line.listen(t, key, size, lasts)
	}
	if err := rows.Err(); err != nil {
		t.Fatal(err)
	}
}

// listen reads a captured call.
func (x *line) listen(t *testing.T, key string, size int, lasts time.Duration) {
	t.Helper()
	obj, err := x.s3.GetObject(t.Context(), x.bucket, key, minio.GetObjectOptions{})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = obj.Close() }()
	file, err := io.ReadAll(obj)
	if err != nil {
		t.Fatal(err)
	}
	data, ok := wav.SizeOf(file)
	if !ok || len(file) != size || int(data) != size-wav.HeaderSize {
		t.Errorf("%s: %d bytes, the header says %d, %t, the row %d", key, len(file), data, ok, size)
		return
	}
	samples := file[wav.HeaderSize:]
	var spoken [2]int
	for i := 0; i+4 <= len(samples); i += 4 {
		for side := range spoken {
			if binary.LittleEndian.Uint16(samples[i+2*side:]) != 0 {
				spoken[side]++
			}
		}
	}
	whole := int(lasts.Seconds() * 8000)
	took := time.Duration(len(samples)/4) * time.Second / 8000
	if spoken[0] < whole*9/10 || spoken[1] < whole*9/10 || took < lasts || took > lasts+15*time.Second {
		t.Errorf(
			"%s: %s long, the caller speaks in %d samples and the agent in %d of %d",
			key,
			took,
			spoken[0],
			spoken[1],
			whole,
		)
	}
}
