package upload

import (
	"bytes"
	"context"
	"errors"
	"io"
	"math"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"pgregory.net/rapid"

	"sluice/internal/platform/blob"
	"sluice/internal/platform/fault"
	"sluice/internal/platform/repo"
)

func (b *bed) slots(t testing.TB, id ID) []Slot {
	t.Helper()
	u, slots, err := b.Slots(b.ctx, id, 0, blob.MaxPart)
	if err != nil || len(slots) != u.Slots() {
		t.Fatalf("%d parts of %+v, %v", len(slots), u, err)
	}
	return slots
}

func (b *bed) put(s Slot, data []byte) error {
	_, err := b.Put(context.Background(), *s.Ticket, -1, bytes.NewReader(data[s.Offset:s.Offset+s.Size]))
	return err
}

// sweepAll expires and removes all that is old, and returns what is left.
func (b *bed) sweepAll(t testing.TB) (left []string) {
	t.Helper()
	b.now = b.now.Add(30 * 24 * time.Hour)
	_, err1 := b.Sweep(b.ctx, "acme")
	_, err2 := blob.Sweep(b.ctx, b.bucket, "", b.now)
	_, err3 := blob.SweepOrphans(b.ctx, b.bucket, "acme/"+Folder, b.now, func(ctx context.Context, key string) (bool, error) { return Owned(ctx, b.store, "acme", key) })
	if err := errors.Join(err1, err2, err3); err != nil {
		t.Fatal(err)
	}
	for info, err := range b.bucket.List(b.ctx, "", "") {
		if left = append(left, info.Key); err != nil {
			t.Fatal(err)
		}
	}
	for up, err := range b.bucket.Uploads(b.ctx, "") {
		if left = append(left, up.ID); err != nil {
			t.Fatal(err)
		}
	}
	return left
}

// Parts come in any order, twice, cut off and of wrong sizes, while processes die
// after any write: only all of them complete the upload, and it is what was sent.
func TestPartsLaw(t *testing.T) {
	const size, partSize = blob.MinPartSize + 12345, blob.MinPartSize
	data := content(size)
	rapid.Check(t, func(rt *rapid.T) {
		b := newBed(t, Config{})
		c := Create{Length: size, Parts: true, PartSize: partSize}
		if rapid.Bool().Draw(rt, "digest at first") {
			c.SHA256 = sumOf(data)
		}
		id := b.create(t, c)
		come := map[int]bool{}
		for range rapid.IntRange(2, 8).Draw(rt, "steps") {
			b.dies.dead, b.dies.left = false, rapid.IntRange(-3, 3).Draw(rt, "dies after")
			slots := b.slots(t, id)
			for _, s := range slots {
				if s.Kept != come[s.Number] {
					rt.Fatalf("part %d: kept is %t, came %t", s.Number, s.Kept, come[s.Number])
				}
			}
			s := slots[rapid.SampledFrom([]int{1, 1, 1, 0}).Draw(rt, "part")] // mostly the small one
			piece := data[s.Offset : s.Offset+s.Size]
			switch rapid.SampledFrom([]string{"put", "put", "put", "short", "long", "cut", "early"}).Draw(rt, "how") {
			case "put":
				_ = b.put(s, data)
				come[s.Number] = true // this process dies after its write
			case "short":
				if _, err := b.Put(b.ctx, *s.Ticket, -1, bytes.NewReader(piece[1:])); err == nil {
					rt.Fatal("a short part was taken")
				}
			case "long":
				if _, err := b.Put(b.ctx, *s.Ticket, -1, io.MultiReader(bytes.NewReader(piece), strings.NewReader("x"))); err == nil {
					rt.Fatal("a long part was taken")
				}
			case "cut":
				if _, err := b.Put(b.ctx, *s.Ticket, s.Size, io.MultiReader(bytes.NewReader(piece[:100]), iotest.ErrReader(errors.New("cut off")))); err == nil {
					rt.Fatal("a part that was cut off was taken")
				}
			case "early":
				if len(come) < 2 {
					if u, err := b.Complete(b.ctx, id, Completion{}); err == nil || u.State != Open {
						rt.Fatalf("complete with %v: %+v, %v", come, u, err)
					}
				}
			}
		}
		b.dies.dead, b.dies.left = false, -1
		for _, s := range b.slots(t, id) {
			if !s.Kept {
				if err := b.put(s, data); err != nil {
					rt.Fatal(err)
				}
			}
		}
		if rapid.Bool().Draw(rt, "dies while it completes") {
			b.dies.left = 1
			if _, err := b.Complete(b.ctx, id, Completion{}); err == nil {
				rt.Fatal("a dead process has completed it")
			}
			b.dies.dead, b.dies.left = false, -1
			b.now = b.now.Add(lease)
			for _, s := range b.slots(t, id) {
				if !s.Kept {
					rt.Fatalf("part %d is published, and not kept", s.Number)
				}
			}
		}
		for range 2 { // again is no error
			if u, err := b.Complete(b.ctx, id, Completion{SHA256: sumOf(data)}); err != nil || u.State != Complete || u.SHA256 != sumOf(data) || u.Offset != size {
				rt.Fatalf("%+v, %v", u, err)
			}
		}
		if !bytes.Equal(b.read(t, id), data) {
			rt.Fatal("the content is not what was sent")
		}
		if left := b.sweepAll(t); len(left) > 0 {
			rt.Fatalf("%v are left", left)
		}
	})
}

func TestPartsThatAreRefused(t *testing.T) {
	b := newBed(t, Config{})
	for _, c := range []Create{
		{Parts: true, Length: -1}, {Parts: true, Length: 0}, {Parts: true, Length: 100, PartSize: 100}, {Parts: true, Length: 100, PartSize: 65 << 20},
		{Parts: true, Length: 6 << 30}, {Length: 100, PartSize: blob.MinPartSize}, {Parts: true, Length: 100, PartSize: -1},
	} {
		c.ContentType = "text/csv"
		if u, err := b.Create(b.ctx, c); err == nil {
			t.Errorf("%+v was taken: %+v", c, u)
		}
	}
	csv := []byte("a,b\n1,2\n")
	id := b.create(t, Create{Parts: true, Length: int64(len(csv)), ContentType: "text/csv"})
	slot := b.slots(t, id)[0]
	changed := func(change func(*Ticket)) Ticket { c := *slot.Ticket; change(&c); return c }
	for what, ticket := range map[string]Ticket{
		"another number": changed(func(c *Ticket) { c.Number = 2 }), "another time": changed(func(c *Ticket) { c.Expires = c.Expires.Add(time.Second) }),
		"another upload": changed(func(c *Ticket) { c.ID = "upl_2" }), "another tenant": changed(func(c *Ticket) { c.Tenant = "rival" }), "no signature": changed(func(c *Ticket) { c.Signature = "" }),
	} {
		if _, err := b.Put(b.ctx, ticket, -1, bytes.NewReader(csv)); !fault.Is(err, fault.PermissionDenied) {
			t.Errorf("%s: %v", what, err)
		}
	}
	if _, err := b.Put(b.ctx, *slot.Ticket, 3, strings.NewReader("abc")); fault.CodeOf(err) != blob.CodeSize {
		t.Error(err)
	}
	if _, err := b.Complete(b.ctx, id, Completion{}); fault.CodeOf(err) != "upload_incomplete" || !strings.HasSuffix(fault.Of(err).Text(), ": 1") {
		t.Error(err)
	}
	if _, err := b.Append(b.ctx, id, Append{Length: 1, Body: strings.NewReader("x")}); fault.CodeOf(err) != "upload_mode" {
		t.Error(err)
	}
	if _, _, err := b.Slots(as("rival"), id, 0, 10); !errors.Is(err, repo.ErrNotFound) {
		t.Error(err)
	}
	if _, err := b.Complete(as("rival"), id, Completion{}); !errors.Is(err, repo.ErrNotFound) {
		t.Error(err)
	}
	if err := b.put(slot, csv); err != nil {
		t.Fatal(err)
	}
	if _, err := b.Complete(b.ctx, id, Completion{ETags: map[int]string{1: "other"}}); fault.CodeOf(err) != "upload_parts_mismatch" {
		t.Error(err)
	}
	if u, err := b.Complete(b.ctx, id, Completion{SHA256: sumOf(nil)}); fault.CodeOf(err) != "upload_checksum" || u.State != Failed {
		t.Errorf("%+v, %v", u, err)
	}
	if err := b.put(slot, csv); fault.CodeOf(err) != "upload_failed" {
		t.Error(err)
	}
	appended := b.create(t, Create{Length: -1})
	if _, _, err := b.Slots(b.ctx, appended, 0, 10); fault.CodeOf(err) != "upload_mode" {
		t.Error(err)
	}
	binary := b.create(t, Create{Parts: true, Length: 8, ContentType: "text/csv"})
	if err := b.put(b.slots(t, binary)[0], []byte("PAR1\x15bcd")); err != nil {
		t.Fatal(err)
	}
	if u, err := b.Complete(b.ctx, binary, Completion{}); fault.CodeOf(err) != "upload_type_mismatch" || u.State != Failed {
		t.Errorf("%+v, %v", u, err)
	}
	gone := b.create(t, Create{Parts: true, Length: int64(len(csv)), ContentType: "text/csv"})
	slot = b.slots(t, gone)[0]
	b.now = b.now.Add(addressed)
	if err := b.put(slot, csv); fault.CodeOf(err) != "upload_address" {
		t.Error(err)
	}
	if err := b.Delete(b.ctx, gone); err != nil {
		t.Fatal(err)
	}
	if left := b.sweepAll(t); len(left) > 0 {
		t.Errorf("%v are left", left)
	}
}

// Beside one that completes the upload, no other does.
func TestOneCompletes(t *testing.T) {
	b := newBed(t, Config{})
	csv := []byte("a,b\n1,2\n")
	id := b.create(t, Create{Parts: true, Length: int64(len(csv)), ContentType: "text/csv"})
	if err := b.put(b.slots(t, id)[0], csv); err != nil {
		t.Fatal(err)
	}
	b.dies.completes = func(context.Context) error {
		if _, err := b.Complete(b.ctx, id, Completion{}); fault.CodeOf(err) != "upload_busy" {
			t.Errorf("beside another: %v", err)
		}
		return nil
	}
	if u, err := b.Complete(b.ctx, id, Completion{}); err != nil || u.State != Complete {
		t.Errorf("%+v, %v", u, err)
	}
}

// A cursor behind the parts is refused, however large: there are no parts of such numbers.
func TestCursorsBehindTheParts(t *testing.T) {
	b := newBed(t, Config{})
	id := b.create(t, Create{Length: blob.MinPartSize + 1, Parts: true, PartSize: blob.MinPartSize})
	for after, code := range map[int]string{2: "", 3: "invalid_cursor", math.MaxInt: "invalid_cursor"} {
		if _, slots, err := b.Slots(b.ctx, id, after, 10); fault.CodeOf(err) != code && (err != nil || code != "") || len(slots) > 0 {
			t.Errorf("behind %d: %+v, %v", after, slots, err)
		}
	}
}

// signing is a store that signs addresses.
type signing struct{ Bucket }

func (signing) PresignPart(context.Context, blob.Upload, int, int64, time.Duration) (string, error) {
	return "https://store.example.com/", nil
}

// Where the server takes no request as large as a part, parts have to go elsewhere.
func TestPartsLargerThanRequests(t *testing.T) {
	b := newBed(t, Config{MaxAppend: blob.MinPartSize - 1})
	c := Create{Length: blob.MinPartSize + 1, Parts: true, ContentType: "application/octet-stream"}
	if _, err := b.Create(b.ctx, c); fault.CodeOf(err) != "upload_parts_invalid" || !strings.Contains(err.Error(), "http.max_body") {
		t.Error(err)
	}
	b.Service.bucket = signing{b.dies}
	if _, err := b.Create(b.ctx, c); err != nil {
		t.Error(err)
	}
	b = newBed(t, Config{MaxAppend: blob.MinPartSize})
	if _, err := b.Create(b.ctx, c); err != nil {
		t.Error(err)
	}
}
