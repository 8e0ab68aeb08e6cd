"""What takes time: queries, exports, batch exports, file downloads."""
