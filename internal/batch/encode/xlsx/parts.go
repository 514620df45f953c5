package xlsx

import (
	"fmt"
	"strconv"
	"strings"
)

const (
	xmlHead = `<?xml version="1.0" encoding="UTF-8" standalone="yes"?>` + "\n"
	mainNS  = `xmlns="http://schemas.openxmlformats.org/spreadsheetml/2006/main"`
	relNS   = "http://schemas.openxmlformats.org/officeDocument/2006/relationships"
	typeNS  = "application/vnd.openxmlformats-officedocument.spreadsheetml."

	// contentTypes takes every XML file that it does not name for a sheet, since
	// how many there will be is not known when it is written. It is written first,
	// where those who tell files by their first bytes look for it.
	contentTypes = xmlHead + `<Types xmlns="http://schemas.openxmlformats.org/package/2006/content-types">` +
		`<Default Extension="rels" ContentType="application/vnd.openxmlformats-package.relationships+xml"/>` +
		`<Default Extension="xml" ContentType="` + typeNS + `worksheet+xml"/>` +
		`<Override PartName="/xl/workbook.xml" ContentType="` + typeNS + `sheet.main+xml"/>` +
		`<Override PartName="/xl/styles.xml" ContentType="` + typeNS + `styles+xml"/></Types>`

	rels = xmlHead + `<Relationships xmlns="http://schemas.openxmlformats.org/package/2006/relationships">` +
		`<Relationship Id="rId1" Type="` + relNS + `/officeDocument" Target="xl/workbook.xml"/></Relationships>`

	// styles are three: none, the header, and times to the millisecond.
	styles = xmlHead + `<styleSheet ` + mainNS + `>` +
		`<numFmts count="1"><numFmt numFmtId="164" formatCode="yyyy\-mm\-dd\ hh:mm:ss.000"/></numFmts>` +
		`<fonts count="2"><font><sz val="11"/><name val="Calibri"/></font><font><b/><sz val="11"/><name val="Calibri"/></font></fonts>` +
		`<fills count="2"><fill><patternFill patternType="none"/></fill><fill><patternFill patternType="gray125"/></fill></fills>` +
		`<borders count="1"><border><left/><right/><top/><bottom/><diagonal/></border></borders>` +
		`<cellStyleXfs count="1"><xf numFmtId="0" fontId="0" fillId="0" borderId="0"/></cellStyleXfs>` +
		`<cellXfs count="3"><xf numFmtId="0" fontId="0" fillId="0" borderId="0" xfId="0"/>` +
		`<xf numFmtId="0" fontId="1" fillId="0" borderId="0" xfId="0" applyFont="1"/>` +
		`<xf numFmtId="164" fontId="0" fillId="0" borderId="0" xfId="0" applyNumberFormat="1"/></cellXfs>` +
		`<cellStyles count="1"><cellStyle name="Normal" xfId="0" builtinId="0"/></cellStyles></styleSheet>`

	// sheetStart freezes the header.
	sheetStart = xmlHead + `<worksheet ` + mainNS + `><sheetViews><sheetView workbookViewId="0">` +
		`<pane ySplit="1" topLeftCell="A2" activePane="bottomLeft" state="frozen"/><selection pane="bottomLeft" activeCell="A2" sqref="A2"/>` +
		`</sheetView></sheetViews><sheetFormatPr defaultRowHeight="15"/><sheetData>`

	manifestStart = xmlHead + `<worksheet ` + mainNS + `><sheetFormatPr defaultRowHeight="15"/>` +
		`<cols><col min="1" max="1" width="24" customWidth="1"/><col min="2" max="2" width="80" customWidth="1"/></cols><sheetData>`
)

// manifest writes the last sheet: what the workbook holds, for a reader who has
// only the file.
func (w *Writer) manifest() {
	lines := append([][2]string(nil), w.o.Manifest...)
	rows := 0
	for _, n := range w.sheets {
		rows += n
	}
	lines = append(lines, [2]string{"rows", strconv.Itoa(rows)}, [2]string{"columns", strconv.Itoa(len(w.schema))})
	for i, n := range w.sheets {
		lines = append(lines, [2]string{"rows of " + sheetName(i), strconv.Itoa(n)})
	}
	b := []byte(manifestStart)
	for _, line := range lines {
		b = append(b, "<row>"...)
		for _, text := range line {
			b = append(b, `<c t="inlineStr"><is><t xml:space="preserve">`...)
			b = append(appendText(b, []byte(text)), "</t></is></c>"...)
		}
		b = append(b, "</row>"...)
	}
	w.part("xl/worksheets/sheet"+strconv.Itoa(len(w.sheets)+1)+".xml", string(b)+"</sheetData></worksheet>")
}

func sheetName(i int) string { return "data_" + strconv.Itoa(i+1) }

// workbook lists the sheets, and which cells of each have a filter.
func (w *Writer) workbook() string {
	var sheets, names strings.Builder
	for i, rows := range w.sheets {
		fmt.Fprintf(&sheets, `<sheet name="%s" sheetId="%d" r:id="rId%d"/>`, sheetName(i), i+1, i+1)
		fmt.Fprintf(&names, `<definedName name="_xlnm._FilterDatabase" localSheetId="%d" hidden="1">%s!%s</definedName>`,
			i, sheetName(i), areaOf(len(w.schema), rows, "$"))
	}
	n := len(w.sheets) + 1
	fmt.Fprintf(&sheets, `<sheet name="_manifest" sheetId="%d" r:id="rId%d"/>`, n, n)
	return xmlHead + `<workbook ` + mainNS + ` xmlns:r="` + relNS + `"><bookViews><workbookView/></bookViews><sheets>` +
		sheets.String() + `</sheets><definedNames>` + names.String() + `</definedNames></workbook>`
}

func (w *Writer) workbookRels() string {
	var b strings.Builder
	b.WriteString(xmlHead + `<Relationships xmlns="http://schemas.openxmlformats.org/package/2006/relationships">`)
	for i := range len(w.sheets) + 1 {
		fmt.Fprintf(&b, `<Relationship Id="rId%d" Type="%s/worksheet" Target="worksheets/sheet%d.xml"/>`, i+1, relNS, i+1)
	}
	fmt.Fprintf(&b, `<Relationship Id="rId%d" Type="%s/styles" Target="styles.xml"/></Relationships>`, len(w.sheets)+2, relNS)
	return b.String()
}

// areaOf is the cells of a sheet of rows below a header: A1:J100, or with
// dollars $A$1:$J$100.
func areaOf(columns, rows int, dollar string) string {
	return dollar + "A" + dollar + "1:" + dollar + columnName(columns-1) + dollar + strconv.Itoa(rows+1)
}

// columnName is the letters of a column: A, …, Z, AA, …
func columnName(i int) string {
	var b [4]byte
	at := len(b)
	for i++; i > 0; i = (i - 1) / 26 {
		at--
		b[at] = byte('A' + (i-1)%26)
	}
	return string(b[at:])
}
