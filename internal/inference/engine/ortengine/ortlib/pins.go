package ortlib

// minVersion is the oldest runtime that the wrapper's headers allow.
const minVersion = "1.29"

// pin is one library in one published package.
type pin struct {
	client   string // the program that downloads it: "pip" or "npm"
	version  string
	os, arch string // as Go names them
	tag      string // pip's name of the platform
	archive  sized  // the package: a wheel (zip) or an npm package (gzipped tar)
	member   string // the library's path inside it
	file     string // and its name in the cache
	library  sized
}

// sized identifies the exact content of a file. The size is also the limit of
// what is read of it.
type sized struct {
	bytes  int64
	sha256 string
}

// The npm package is one archive for all platforms, so it is the second
// choice: five times the size of a wheel.
var npmArchive = sized{113507888, "6e3390d6b783e7be946fad629292799da28d0b42f84856e50d2c1b0383291e75"}

// pins lists what is offered, the preferred package of a platform first.
var pins = []pin{
	{
		client: "pip", version: "1.31.1", os: "linux", arch: "amd64", tag: "manylinux_2_28_x86_64",
		archive: sized{23760988, "1f3dea47f2f0e5117c2404cea7d21fd253ae7836a3bf167a501cdfbb2600d536"},
		member:  "onnxruntime/capi/libonnxruntime.so.1.31.1", file: "libonnxruntime.so.1.31.1",
		library: sized{29352200, "fc44112fbe06d7d689c57e11d3862031f64711007e4ee020f8eed5185fd2c1d3"},
	},
	{
		client: "npm", version: "1.30.0", os: "linux", arch: "amd64", archive: npmArchive,
		member: "package/bin/napi-v6/linux/x64/libonnxruntime.so.1", file: "libonnxruntime.so.1.30.0",
		library: sized{45828512, "ffb75a925ba05e47b235bb66e3e3911714a80b328a9c9425539feb204aa32a23"},
	},
	{
		client: "pip", version: "1.31.1", os: "linux", arch: "arm64", tag: "manylinux_2_28_aarch64",
		archive: sized{21420803, "0b9a492176886992e0e875f06bc0367e333f5fff11711a2d642e18b02f3009cc"},
		member:  "onnxruntime/capi/libonnxruntime.so.1.31.1", file: "libonnxruntime.so.1.31.1",
		library: sized{25265040, "8aa3b76b28c778a2b1dd660d34161adb1d508c9ccd04ff9dc80e26eca5df8467"},
	},
	{
		client: "npm", version: "1.30.0", os: "linux", arch: "arm64", archive: npmArchive,
		member: "package/bin/napi-v6/linux/arm64/libonnxruntime.so.1", file: "libonnxruntime.so.1.30.0",
		library: sized{25135496, "1f549d46250b005580b597f4164984aaf75b3bcb9f3aeb07c7f8a8fe60b23c76"},
	},
	{
		client: "pip", version: "1.31.1", os: "darwin", arch: "arm64", tag: "macosx_14_0_arm64",
		archive: sized{20882125, "96dd2564b10ea7153ad9c207e7cd8e5917cb3ba521e0e0a62ac03486fdc8d56c"},
		member:  "onnxruntime/capi/libonnxruntime.1.31.1.dylib", file: "libonnxruntime.1.31.1.dylib",
		library: sized{33037336, "d586cbe89effc085a09d3341b3cfbd5c322517f9d397aeb20814af21433f2b36"},
	},
	{
		client: "npm", version: "1.30.0", os: "darwin", arch: "arm64", archive: npmArchive,
		member: "package/bin/napi-v6/darwin/arm64/libonnxruntime.1.30.0.dylib", file: "libonnxruntime.1.30.0.dylib",
		library: sized{44589928, "685d2be5dba1309c89d3a5324b7fd06a5c42f1a61bfea32d14c4cc28d072121d"},
	},
}
