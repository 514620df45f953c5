package ingest

// Sizes of the blocks that texts are held in.
const (
	textBlock = 64 << 10 // bytes
	endBlock  = 16 << 10 // ends
)

// texts are held one behind the other in blocks. To hold more copies nothing of what is held, as
// one slice that grows would, which leaves as much behind as it has.
type texts struct {
	blocks [][]byte   // of textBlock, but the last
	ends   [][]uint32 // of each text, from the first byte of the first; of endBlock, but the last
	size   int        // bytes
	count  int
}

// add adds a text.
func (t *texts) add(text []byte) {
	t.size += len(text)
	for len(text) > 0 {
		n := min(len(text), textBlock)
		if last := len(t.blocks) - 1; last >= 0 && len(t.blocks[last]) < textBlock {
			n = min(n, textBlock-len(t.blocks[last]))
			t.blocks[last] = append(t.blocks[last], text[:n]...)
		} else {
			t.blocks = append(t.blocks, append(block[byte](len(t.blocks), textBlock), text[:n]...))
		}
		text = text[n:]
	}
	if t.count%endBlock == 0 {
		t.ends = append(t.ends, block[uint32](len(t.ends), endBlock))
	}
	last := len(t.ends) - 1
	t.ends[last] = append(t.ends[last], uint32(t.size))
	t.count++
}

// block makes room for a block; the first grows: most workbooks have few texts.
func block[T any](number, size int) []T {
	if number == 0 {
		return nil
	}
	return make([]T, 0, size)
}

func (t *texts) end(i int) int { return int(t.ends[i/endBlock][i%endBlock]) }

// at returns a text, which is not to be changed.
func (t *texts) at(i int) []byte {
	begin, end := 0, t.end(i)
	if i > 0 {
		begin = t.end(i - 1)
	}
	number, from := begin/textBlock, begin%textBlock
	if n := end - begin; n == 0 {
		return []byte{}
	} else if from+n <= textBlock {
		return t.blocks[number][from : from+n : from+n]
	}
	text := make([]byte, 0, end-begin)
	for ; len(text) < cap(text); number, from = number+1, 0 {
		text = append(text, t.blocks[number][from:min(textBlock, from+cap(text)-len(text))]...)
	}
	return text
}
