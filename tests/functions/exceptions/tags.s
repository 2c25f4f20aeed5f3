# The kind of exceptions that C++ throws.
	.tagtype	__cpp_exception i32
	.globl	__cpp_exception
__cpp_exception:
