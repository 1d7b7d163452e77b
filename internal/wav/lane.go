package wav

// lane is one channel's audio that was not written yet: bytes of 16-bit samples, from the writer's position on.
type lane struct {
	data []byte
	head int // of data, what was written already
	low  byte
	half bool // low is the first byte of a sample whose second did not come yet
}

// len is in samples.
func (l *lane) len() int { return (len(l.data) - l.head) / 2 }

// add appends audio, at most up to a number of samples, and returns how many it left out.
func (l *lane) add(pcm []byte, most int) (dropped int) {
	if l.half && len(pcm) > 0 {
		l.half = false
		dropped += l.add([]byte{l.low, pcm[0]}, most)
		pcm = pcm[1:]
	}
	if len(pcm)%2 == 1 {
		l.low = pcm[len(pcm)-1]
		l.half = true
	}
	whole := len(pcm) / 2
	fits := min(whole, max(0, most-l.len()))
	l.data = append(l.data, pcm[:2*fits]...)
	return dropped + whole - fits
}

// silence appends n silent samples.
func (l *lane) silence(n int) { l.data = append(l.data, make([]byte, 2*n)...) }

// cut drops what is behind n samples, and half a sample that waits for its rest.
func (l *lane) cut(n int) {
	if n < l.len() {
		l.data = l.data[:l.head+2*max(0, n)]
	}
	l.half = false
}

// take removes up to n samples from the front; they are valid until the next change.
func (l *lane) take(n int) []byte {
	taken := l.data[l.head:min(l.head+2*n, len(l.data))]
	l.head += len(taken)
	return taken
}

// tidy gives back the room of what was taken, now and then, so that it costs next to nothing.
func (l *lane) tidy() {
	switch {
	case l.head == len(l.data) && cap(l.data) > roomToKeep:
		l.data = nil
		l.head = 0 // a long speech is over
	case l.head*2 >= len(l.data):
		l.data = l.data[:copy(l.data, l.data[l.head:])]
		l.head = 0
	}
}

// roomToKeep is what an empty lane holds on to: half a second at 24 kHz.
const roomToKeep = 24 << 10
